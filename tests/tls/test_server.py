from __future__ import annotations

import gc
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pfsmtp.config import CertificatePair
from pfsmtp.log import Log
from pfsmtp.tls import server_context
from tests.certificates import make_issuer, make_pair
from tests.tls.memory import anyone, client_hello, connect

DAY = 86400.0
Events = Callable[[], list[dict[str, Any]]]


def der(pair: CertificatePair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


@pytest.fixture
def pairs(tmp_path: Path) -> list[CertificatePair]:
    return [
        make_pair(tmp_path, "first", ["mx.example.org"]),
        make_pair(tmp_path, "wild", ["*.example.net", "example.net"]),
        make_pair(tmp_path, "exact", ["mx.example.net", "mx.example.org"]),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("mx.example.org", 0),
        ("MX.Example.NET", 2),
        ("unknown.example", 0),
        (None, 0),
        ("example.net", 1),
        ("any.example.net", 1),
        ("two.labels.example.net", 0),
        ("mx.example.net", 2),
    ],
)
def test_sni_chooses_the_certificate(
    pairs: list[CertificatePair], log: Log, name: str | None, shown: int
) -> None:
    ends = connect(server_context(pairs, log), name=name)
    assert ends.shown == der(pairs[shown])


def test_one_certificate_is_shown_whatever_the_name(pairs: list[CertificatePair], log: Log) -> None:
    ends = connect(server_context(pairs[:1], log), name="unknown.example")
    assert ends.shown == der(pairs[0])


def test_chain_is_sent(tmp_path: Path, log: Log) -> None:
    root = make_issuer("root")
    middle = make_issuer("middle", root)
    pair = make_pair(tmp_path, "a", ["leaf.example"], chain=[middle])
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=root.pem.decode())
    assert connect(server_context([pair], log), client, name="leaf.example").client.getpeercert()


def hello_with(name: bytes) -> bytes:
    placeholder = "x" * len(name)
    return client_hello(placeholder).replace(placeholder.encode(), name)


def answer(server: ssl.SSLContext, said: bytes) -> ssl.SSLError | None:
    """How the server takes the first octets of a client; None when it goes on."""
    incoming = ssl.MemoryBIO()
    incoming.write(said)
    connection = server.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError as error:
        return error
    raise AssertionError("a handshake cannot be over so soon")


@pytest.mark.parametrize(
    "name",
    [b"a..b", b"..", b".", b"*", b"*.example.net", b"\r\n220 hello", b"\x1b[31m", b"-", b"xn--"],
)
def test_odd_names_get_a_certificate(pairs: list[CertificatePair], log: Log, name: bytes) -> None:
    assert answer(server_context(pairs, log), hello_with(name)) is None


@pytest.mark.parametrize("name", [b"\xff\xfe\x1b[31m", b"xn--\xe9", b"a\x00b"])
def test_names_that_are_not_ascii_end_the_handshake_only(
    pairs: list[CertificatePair],
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    events: Events,
    name: bytes,
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    context = server_context(pairs, log)
    assert answer(context, hello_with(name)) is not None
    assert answer(context, hello_with(b"mx.example.org")) is None
    assert events() == []


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", b"EHLO mx.example.org\r\n", b"\0" * 64]
)
def test_what_is_not_tls_ends_the_handshake_only(
    pairs: list[CertificatePair], log: Log, said: bytes
) -> None:
    context = server_context(pairs, log)
    assert answer(context, said) is not None
    assert answer(context, hello_with(b"mx.example.org")) is None


def old_client(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = anyone()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_versions_before_tls_1_2_are_refused(
    pairs: list[CertificatePair], log: Log, version: ssl.TLSVersion
) -> None:
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        connect(server_context(pairs, log), old_client(version))


def test_ciphers_have_forward_secrecy_and_are_authenticated(
    pairs: list[CertificatePair], log: Log
) -> None:
    for cipher in server_context(pairs, log).get_ciphers():
        assert cipher["aead"]
        assert cipher["kea"] in ("kx-any", "kx-ecdhe")


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"])
def test_other_ciphers_are_refused(pairs: list[CertificatePair], log: Log, cipher: str) -> None:
    client = anyone()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(cipher)
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        connect(server_context(pairs, log), client)


def test_options(pairs: list[CertificatePair], log: Log) -> None:
    context = server_context(pairs, log)
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_CIPHER_SERVER_PREFERENCE):
        assert context.options & option
    assert context.num_tickets == 1


def test_expired_certificate_is_served_and_logged(tmp_path: Path, log: Log, events: Events) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"], days=(-30, -2))
    context = server_context([pair], log)
    assert connect(context).shown == der(pair)
    (event,) = events()
    assert event["event"] == "certificate-expired"
    assert event["file"] == str(pair.certificate)


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        (0.0, []),
        (22 * DAY, []),
        (24 * DAY, ["certificate-expires-soon"]),
        (31 * DAY, ["certificate-expired"]),
        (-2 * DAY, ["certificate-not-yet-valid"]),
    ],
)
def test_dates_are_logged(
    tmp_path: Path, log: Log, events: Events, passed: float, expected: list[str]
) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    server_context([pair], log, clock=lambda: time.time() + passed)
    assert [event["event"] for event in events()] == expected


def test_key_that_others_can_read_is_logged(tmp_path: Path, log: Log, events: Events) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    pair.key.chmod(0o644)
    server_context([pair], log)
    assert [event["event"] for event in events()] == ["key-open-to-others"]


def test_contexts_go_when_they_are_no_longer_used(pairs: list[CertificatePair], log: Log) -> None:
    """A thousand reloads must not leave a thousand contexts."""
    gc.collect()
    before = sum(isinstance(thing, ssl.SSLContext) for thing in gc.get_objects())
    for _ in range(5):
        server_context(pairs, log)
    gc.collect()
    assert sum(isinstance(thing, ssl.SSLContext) for thing in gc.get_objects()) == before


@contextmanager
def workers(context: ssl.SSLContext, count: int) -> Iterator[Sequence[int]]:
    """Processes that were forked after the context was made; yields the port of each."""
    ports, children = [], []
    for _ in range(count):
        listener = socket.create_server(("127.0.0.1", 0))
        ports.append(listener.getsockname()[1])
        child = os.fork()
        if child == 0:
            _greet_for_ever(listener, context)
        children.append(child)
        listener.close()
    try:
        yield ports
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _greet_for_ever(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        connection, _ = listener.accept()
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.sendall(b"220 hello\r\n")
            encrypted.recv(1)


def visit(
    port: int, client: ssl.SSLContext, *, name: str, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """Connect; say whether the session was resumed, and which one to come back with."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        client.wrap_socket(connection, server_hostname=name, session=session) as encrypted,
    ):
        assert encrypted.recv(100) == b"220 hello\r\n"
        return bool(encrypted.session_reused), encrypted.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["mx.example.org", "mx.example.net"])
def test_session_is_resumed_by_another_worker(
    pairs: list[CertificatePair], log: Log, name: str, version: ssl.TLSVersion
) -> None:
    client = anyone()
    client.maximum_version = version
    with workers(server_context(pairs, log), 2) as (one, other):
        resumed, session = visit(one, client, name=name)
        assert not resumed
        resumed, session = visit(other, client, name=name, session=session)
        assert resumed


def test_reload_changes_the_ticket_key(pairs: list[CertificatePair], log: Log) -> None:
    client = anyone()
    first = connect(server_context(pairs, log), client)
    again = connect(server_context(pairs, log), client, session=first.client.session)
    assert again.client.version() == "TLSv1.3"
    assert not again.client.session_reused
