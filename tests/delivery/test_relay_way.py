"""Where mail goes: the ways of exchangers and smart hosts, and credentials from a file."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.delivery.relay.connection import explain, tls_name
from pfsmtp.delivery.relay.way import CredentialsError, Way, read_credentials
from pfsmtp.resolver import Destination, NameServer, Ourselves, Resolver
from pfsmtp.smtp.client import Credentials, TLSPolicy
from pfsmtp.smtp.errors import PermanentFailure
from pfsmtp.tls import client_context


@pytest.fixture
def resolver() -> Resolver:
    """One that asks nobody: what is tested needs no name server."""
    return Resolver.asking(
        [NameServer("127.0.0.1", 1)], time.monotonic, source=random.Random(1), own=Ourselves()
    )


def test_way_to_exchangers_prefers_tls(resolver: Resolver) -> None:
    way = Way.to_exchangers(resolver, 25, client_context(verify=False))
    assert (way.tls, way.smart_host, way.credentials) == (TLSPolicy.PREFERRED, None, None)
    assert list(way.route("[192.0.2.1]", 0.0)) == [Destination("[192.0.2.1]", "192.0.2.1")]
    with pytest.raises(PermanentFailure):
        way.route("[127.0.0.1]", 0.0)


@pytest.mark.parametrize(
    ("name", "destination"),
    [
        ("192.0.2.1", Destination("[192.0.2.1]", "192.0.2.1")),
        ("2001:db8::1", Destination("[IPv6:2001:db8::1]", "2001:db8::1")),
        ("127.0.0.1", Destination("[127.0.0.1]", "127.0.0.1")),
        ("localhost", Destination("localhost", "::1")),
    ],
)
@pytest.mark.parametrize(("port", "tls"), [(587, TLSPolicy.REQUIRED), (465, TLSPolicy.IMPLICIT)])
def test_way_to_a_smart_host_requires_tls(
    resolver: Resolver, name: str, destination: Destination, port: int, tls: TLSPolicy
) -> None:
    credentials = Credentials("us", "secret")
    context = client_context(verify=True)
    way = Way.to_smart_host(resolver, name, port=port, context=context, credentials=credentials)
    assert (way.tls, way.smart_host, way.port) == (tls, name, port)
    assert next(way.route("anything.example", time.monotonic() + 5)) == destination


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx.example.org", "mx.example.org"),
        ("mx.example.org.", "mx.example.org"),
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
    ],
)
def test_name_that_a_certificate_is_to_have(host: str, name: str) -> None:
    assert tls_name(host) == name


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes, int], Path]:
    def write(octets: bytes, mode: int = 0o600) -> Path:
        path = tmp_path / "credentials"
        path.write_bytes(octets)
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize("octets", [b"us:secret", b"us:secret\n", b"us:secret\r\n"])
def test_credentials(file: Callable[[bytes], Path], octets: bytes) -> None:
    assert read_credentials(file(octets)) == Credentials("us", "secret")


def test_password_may_hold_colons_and_is_never_shown(file: Callable[[bytes], Path]) -> None:
    credentials = read_credentials(file(b"us@example.org:a:b "))
    assert credentials == Credentials("us@example.org", "a:b ")
    assert "a:b" not in repr(credentials)


@pytest.mark.parametrize(
    "octets", [b"", b"us", b"us:", b":secret", b"us:a\nthem:b\n", b"us:a\0b", b"us:\xff"]
)
def test_file_without_credentials_is_named(
    file: Callable[[bytes], Path], octets: bytes, tmp_path: Path
) -> None:
    with pytest.raises(CredentialsError, match=str(tmp_path)):
        read_credentials(file(octets))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_file_that_others_may_read_is_refused_with_the_remedy(
    file: Callable[[bytes, int], Path], mode: int
) -> None:
    with pytest.raises(CredentialsError, match="chmod 600"):
        read_credentials(file(b"us:secret", mode))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="missing"):
        read_credentials(tmp_path / "missing")


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (ValueError("a name too long"), "a name too long"),
    ],
)
def test_failures_in_words(failure: Exception, text: str) -> None:
    assert explain(failure) == text
