"""All mail to a smart host: over TLS that is verified, with a login; and never otherwise.

The authority that the smart host's certificate is from is named by the environment, as OpenSSL
has it (SSL_CERT_FILE), or by the configuration.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pfsmtp.config import CertificatePair
from tests.certificates import make_issuer, make_pair
from tests.nameserver import NameServer
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.peers import listens
from tests.running.outbound.post import outcome, submit
from tests.running.program import ROOT, Program, eventually

LOGIN, PASSWORD = "relay", "open: sesame"


@dataclass(frozen=True, slots=True)
class Site:
    """A smart host with two names, of which its certificate has one; what makes servers for it."""

    internet: Internet
    names: NameServer
    maildir: Path
    authority: Path

    def outbound(
        self,
        directory: Path,
        *,
        host: str = "smart.test",
        password: str = PASSWORD,
        mode: int = 0o600,
        **more: object,
    ) -> Program:
        credentials = directory / "credentials"
        directory.mkdir(parents=True)
        credentials.write_text(f"{LOGIN}:{password}\n")
        credentials.chmod(mode)
        relay = {"host": f"{host}:{self.internet.port}", "credentials": "credentials"}
        return outbound(directory, self.internet, self.names, relay={**relay, **more})

    def arrived(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.maildir / "new").glob("*")]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    issuer = make_issuer("an authority of ours")
    pair = make_pair(tmp_path, "smart", ["smart.test"], chain=[issuer])
    authority = tmp_path / "authority.pem"
    authority.write_bytes(issuer.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    internet = Internet()
    address = internet.address()
    internet.records += [f"smart A {address}", f"other A {address}"]
    maildir = tmp_path / "mail"
    with (
        smart_host(address, internet.port, maildir=maildir, pair=pair),
        internet.name_server(tmp_path / "names") as names,
    ):
        yield Site(internet, names, maildir, authority)


@contextmanager
def smart_host(address: str, port: int, *, maildir: Path, pair: CertificatePair) -> Iterator[None]:
    where = [address, str(port), str(pair.certificate), str(pair.key), str(maildir)]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.running.outbound.smart_host", *where, LOGIN, PASSWORD],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,  # it tells of each handshake that fails
    )
    try:
        eventually(lambda: listens(address, port), what="the smart host")
        yield
    finally:
        server.kill()
        server.wait()


def test_all_mail_goes_there_over_verified_tls_with_a_login(site: Site, tmp_path: Path) -> None:
    with site.outbound(tmp_path / "out") as server:
        # Nobody asks the DNS where these are.
        for recipient in ("bob@nowhere.test", "carol@elsewhere.example"):
            submit(server, recipient)
            end = outcome(server, recipient)
            assert (end["event"], end["host"]) == ("delivered", "smart.test")
            assert end["tls"].startswith("TLSv1.3")
            assert end["tls"].endswith("certificate valid")
        assert PASSWORD not in server.log_text()
    assert len(site.arrived()) == 2


def test_what_is_wrong_with_it_bounces_nothing_and_nothing_is_said_in_clear(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipient = "bob@nowhere.test"
    with ExitStack() as stack:
        wrong = stack.enter_context(site.outbound(tmp_path / "wrong", password="guess"))
        other = stack.enter_context(site.outbound(tmp_path / "other", host="other.test"))
        monkeypatch.delenv("SSL_CERT_FILE")
        strange = stack.enter_context(site.outbound(tmp_path / "strange"))
        for server in (wrong, other, strange):
            submit(server, recipient)
        ends = [outcome(server, recipient) for server in (wrong, other, strange)]
    assert [end["event"] for end in ends] == ["deferred"] * 3
    assert [end["status"] for end in ends] == ["4.7.8", "4.7.5", "4.7.5"]
    assert "535" in ends[0]["said"]
    assert "Hostname mismatch" in ends[1]["said"]
    assert "unable to get local issuer" in ends[2]["said"] or "self-signed" in ends[2]["said"]
    assert site.arrived() == []


def test_authorities_of_the_configuration_are_those_that_count(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = tmp_path / "others.pem"
    others.write_bytes(make_issuer("another authority").pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(others))
    with site.outbound(tmp_path / "good", authorities=str(site.authority)) as server:
        submit(server, "bob@nowhere.test")
        end = outcome(server, "bob@nowhere.test")
        assert end["event"] == "delivered"
        assert end["tls"].endswith("certificate valid")
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    with site.outbound(tmp_path / "bad", authorities=str(others)) as server:
        submit(server, "carol@nowhere.test")
        assert outcome(server, "carol@nowhere.test")["status"] == "4.7.5"
    assert len(site.arrived()) == 1


@pytest.mark.parametrize("octets", [None, b""])
def test_authorities_that_cannot_be_used_stop_the_start(
    site: Site, tmp_path: Path, octets: bytes | None
) -> None:
    file = tmp_path / "authorities.pem"
    if octets is not None:
        file.write_bytes(octets)
    server = site.outbound(tmp_path / "out", authorities=str(file))
    server.start(ready=False)
    assert server.wait() == 1
    said = server.errors.read_text()
    assert f"{file}: " in said
    assert "Traceback" not in said


def test_authorities_that_cannot_be_used_at_a_reload_leave_those_there_were(
    site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "authorities.pem"
    file.write_bytes(site.authority.read_bytes())
    with site.outbound(tmp_path / "out", authorities=str(file)) as server:
        for octets in (b"garbage", None):
            failed = server.refuse_reload(file, octets)
            assert f"{file}: " in failed["reason"]
        submit(server, "bob@nowhere.test")
        end = outcome(server, "bob@nowhere.test")
        assert (end["event"], end["tls"][-5:]) == ("delivered", "valid")


def test_password_that_others_can_read_is_not_used(site: Site, tmp_path: Path) -> None:
    server = site.outbound(tmp_path / "out", mode=0o644)
    server.start(ready=False)
    assert server.wait() == 1
    said = server.errors.read_text()
    assert "can be read by others; remedy: chmod 600" in said
    assert "Traceback" not in said
