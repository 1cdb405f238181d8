from __future__ import annotations

import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pfsmtp.config import CertificatePair
from pfsmtp.tls.trust import Trust
from pfsmtp.tls.verify import Verifier
from tests.certificates import Issuer, make_issuer, make_pair
from tests.tls.memory import connect

DAY = 86400.0


@pytest.fixture(scope="module")
def root() -> Issuer:
    return make_issuer("root")


@pytest.fixture(scope="module")
def middle(root: Issuer) -> Issuer:
    return make_issuer("middle", root)


@pytest.fixture
def trust(root: Issuer) -> Trust:
    return Trust(root.pem)


def shown_by(pair: CertificatePair) -> ssl.SSLObject:
    """A client's end of a connection to a server with this certificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate, pair.key)
    return connect(server).client


@pytest.mark.parametrize("name", ["mx.example", "MX.Example", "any.wild.example", "192.0.2.1"])
def test_certificate_of_an_authority(
    tmp_path: Path, root: Issuer, middle: Issuer, trust: Trust, name: str
) -> None:
    names = ["mx.example", "*.wild.example"]
    pair = make_pair(tmp_path, "a", names, addresses=["192.0.2.1"], chain=[middle])
    assert trust(shown_by(pair), name) == "valid"


@pytest.mark.parametrize(
    "name", ["other.example", "a.b.wild.example", "wild.example", "192.0.2.2", "::1", "\0", "", "-"]
)
def test_another_name(tmp_path: Path, middle: Issuer, trust: Trust, name: str) -> None:
    names = ["mx.example", "*.wild.example"]
    pair = make_pair(tmp_path, "a", names, addresses=["192.0.2.1"], chain=[middle])
    assert trust(shown_by(pair), name) in ("for another name", "unreadable")


def test_dates(tmp_path: Path, root: Issuer, middle: Issuer) -> None:
    connection = shown_by(make_pair(tmp_path, "a", ["mx.example"], chain=[middle]))
    now = time.time()
    moments = iter((now - 2 * DAY, now, now + 31 * DAY))
    trust = Trust(root.pem, clock=lambda: next(moments))
    verdicts = [trust(connection, "mx.example") for _ in range(3)]
    assert verdicts == ["not yet valid", "valid", "expired"]


def test_date_of_an_authority(tmp_path: Path, root: Issuer, middle: Issuer) -> None:
    pair = make_pair(tmp_path, "a", ["mx.example"], days=(-1, 60), chain=[middle])
    later = Trust(root.pem, clock=lambda: time.time() + 31 * DAY)
    assert later(shown_by(pair), "mx.example") == "of an unknown authority"


@pytest.mark.parametrize("octets", [b"", b"garbage", b"\x30\x82\xff\xff", b"\x30" * 10_000])
def test_what_is_no_certificate(root: Issuer, octets: bytes) -> None:
    assert Verifier(root.pem).verdict([octets], "mx.example", time.time()) == "unreadable"


def test_authority_that_cannot_be_read_is_left_out(
    tmp_path: Path, root: Issuer, middle: Issuer
) -> None:
    damaged = root.pem.replace(b"\nMII", b"\nMIX", 1)
    connection = shown_by(make_pair(tmp_path, "a", ["mx.example"], chain=[middle]))
    assert Trust(damaged + root.pem)(connection, "mx.example") == "valid"


def test_self_signed(tmp_path: Path, trust: Trust) -> None:
    pair = make_pair(tmp_path, "a", ["mx.example"], common_name="mx.example")
    assert trust(shown_by(pair), "mx.example") == "self-signed"


def test_unknown_authority(tmp_path: Path, middle: Issuer) -> None:
    connection = shown_by(make_pair(tmp_path, "a", ["mx.example"], chain=[middle]))
    for authorities in (make_issuer("other").pem, b"", b"garbage"):
        assert Trust(authorities)(connection, "mx.example") == "of an unknown authority"


def test_authority_that_is_missing_from_the_chain(
    tmp_path: Path, middle: Issuer, trust: Trust
) -> None:
    pair = make_pair(tmp_path, "a", ["mx.example"], chain=[middle])
    pair.certificate.write_bytes(pair.certificate.read_bytes().removesuffix(middle.pem))
    assert trust(shown_by(pair), "mx.example") == "of an unknown authority"


def test_authorities_of_the_system(tmp_path: Path, middle: Issuer) -> None:
    connection = shown_by(make_pair(tmp_path, "a", ["mx.example"], chain=[middle]))
    assert Trust()(connection, "mx.example") == "of an unknown authority"


def test_authorities_are_read_from_a_directory(
    tmp_path: Path, root: Issuer, middle: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorities = tmp_path / "authorities"
    authorities.mkdir()
    (authorities / "0123abcd.0").write_bytes(root.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(authorities))
    connection = shown_by(make_pair(tmp_path, "a", ["mx.example"], chain=[middle]))
    assert Trust()(connection, "mx.example") == "valid"


def test_nothing_is_imported_before_the_first_chain() -> None:
    code = (
        "import sys; from pfsmtp.tls.trust import Trust; Trust();"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
