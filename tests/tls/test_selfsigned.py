from __future__ import annotations

import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pfsmtp.config import CertificatePair
from pfsmtp.log import Log
from pfsmtp.tls import TLSError, ensure_self_signed, server_context
from tests.certificates import ecdsa_key, key_pem, make_pair, rsa_key
from tests.tls.memory import connect

HOSTNAME = "mx.example.org"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return tmp_path / "var" / "tls" / "cert.pem"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "var" / "tls" / "key.pem"


def test_pair_is_made_and_serves_its_host(certificate: Path, key: Path, log: Log) -> None:
    assert ensure_self_signed(certificate, key, hostname=HOSTNAME)
    context = server_context([CertificatePair(certificate=certificate, key=key)], log)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(certificate)
    assert connect(context, client, name=HOSTNAME).client.getpeercert()


def test_key_is_ecdsa_p256_and_private(certificate: Path, key: Path) -> None:
    ensure_self_signed(certificate, key, hostname=HOSTNAME)
    public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_nothing_else_is_left(certificate: Path, key: Path) -> None:
    ensure_self_signed(certificate, key, hostname=HOSTNAME)
    assert sorted(os.listdir(certificate.parent)) == ["cert.pem", "key.pem"]


def test_existing_pair_is_left_alone(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "mine", ["mine.example"])
    before = pair.certificate.read_bytes(), pair.key.read_bytes()
    assert not ensure_self_signed(pair.certificate, pair.key, hostname=HOSTNAME)
    assert (pair.certificate.read_bytes(), pair.key.read_bytes()) == before


def test_existing_pair_costs_no_import() -> None:
    """The start of every day is fast: `cryptography` is for the first."""
    code = (
        "import sys, pfsmtp.tls as tls, pathlib;"
        "here = pathlib.Path('/etc/passwd');"
        "assert not tls.ensure_self_signed(here, here, hostname='h');"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_start_that_was_cut_off_after_the_key_is_taken_up(certificate: Path, key: Path) -> None:
    ensure_self_signed(certificate, key, hostname=HOSTNAME)
    octets = key.read_bytes()
    certificate.unlink()
    assert ensure_self_signed(certificate, key, hostname=HOSTNAME)
    assert key.read_bytes() == octets
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


def test_certificate_without_its_key_is_an_error(certificate: Path, key: Path) -> None:
    ensure_self_signed(certificate, key, hostname=HOSTNAME)
    key.unlink()
    with pytest.raises(TLSError, match="does not exist; put it there"):
        ensure_self_signed(certificate, key, hostname=HOSTNAME)
    assert not key.exists()


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (key_pem(rsa_key()), "it is no ECDSA key"),
        (key_pem(ecdsa_key(), password=b"secret"), "it is encrypted"),
        (b"garbage", ""),
    ],
    ids=["rsa", "encrypted", "garbage"],
)
def test_key_of_another_kind_is_an_error(
    certificate: Path, key: Path, octets: bytes, reason: str
) -> None:
    key.parent.mkdir(parents=True)
    key.write_bytes(octets)
    with pytest.raises(TLSError) as caught:
        ensure_self_signed(certificate, key, hostname=HOSTNAME)
    assert str(key) in str(caught.value)
    assert reason in str(caught.value)
    assert key.read_bytes() == octets


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(TLSError, match="cannot be made"):
        ensure_self_signed(blocked / "cert.pem", blocked / "key.pem", hostname=HOSTNAME)


def test_name_longer_than_a_common_name_may_be(certificate: Path, key: Path) -> None:
    hostname = ".".join(["label"] * 20)
    assert ensure_self_signed(certificate, key, hostname=hostname)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


def test_servers_that_start_together_end_with_one_pair(certificate: Path, key: Path) -> None:
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                ensure_self_signed(certificate, key, hostname=HOSTNAME)
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    assert sorted(os.listdir(certificate.parent)) == ["cert.pem", "key.pem"]
