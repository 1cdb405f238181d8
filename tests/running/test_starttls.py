"""STARTTLS and implicit TLS as clients and attackers use them (RFC 3207, RFC 8314)."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests import needs
from tests.certificates import make_pair
from tests.running.program import PATIENCE, Program, Talk, any_server, eventually
from tests.running.segments import Segments, octet_by_octet

DEADLINE = 1.0
"""Seconds for a command, and so for a handshake, of the server `hasty`."""
GRACE = 4.0
"""Seconds by which a busy machine may be late."""
GARBAGE = {
    "commands": b"EHLO client.example.net\r\nMAIL FROM:<>\r\n",
    "zeros": bytes(512),
    "a record of another kind": b"\x17\x03\x03\x00\x10" + bytes(16),
    "an endless record": b"\x16\x03\x01\xff\xff" + bytes(20_000),
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40),
}
HOSTILE_NAMES = [
    b"../../etc/passwd",
    b"%s%n%s%n%s%n%s%n",
    b"\r\nMAIL FROM:<>\r\n",
    b"a\0a\0a\0a\0a\0a\0a\0a\0",
    b"\xff" * 16,
    b"\x1b]0;title\x07\x1b[2J.",
    b"................",
    b"*.*.*.*.*.*.*.*.",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    yield from running(Program.inbound(tmp_path_factory.mktemp("starttls")))


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    directory = tmp_path_factory.mktemp("hasty")
    yield from running(Program.inbound(directory, limits={"command": f"{DEADLINE} s"}))


def running(server: Program) -> Iterator[Program]:
    """The server, held to this: no worker has died of what was done to it, nothing was a bug."""
    with server:
        workers = server.workers()
        yield server
        assert server.workers() == workers
        assert server.events("connection-bug") == []
    assert "Traceback" not in server.errors.read_text()


def client_hello(name: bytes) -> bytes:
    """What a client says first, asking for `name`."""
    placeholder = "a" * len(name)
    outgoing = ssl.MemoryBIO()
    tls = any_server().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=placeholder)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read().replace(placeholder.encode(), name)


def deliver(client: Talk, text: str) -> None:
    """From EHLO on."""
    client.hello()
    client.envelope()
    assert client.say(f"Subject: {text}\r\n\r\n{text}\r\n.").startswith("250 2.0.0")


def assert_serves(server: Program) -> None:
    """Others are served as ever."""
    server.take("alice")
    with Talk(server.port) as client:
        client.start_tls()
        deliver(client, "as ever")
    assert len(server.take("alice")) == 1
    assert server.leftovers() == []


# -- the rules of the dialogue


def test_rfc3207_4_2_all_that_was_said_before_is_forgotten(server: Program) -> None:
    with Talk(server.port) as client:
        client.start_tls()
        assert client.say("MAIL FROM:<sender@example.net>").startswith("503 5.5.1")
        assert "STARTTLS" not in client.say("EHLO after.example.net")
        assert client.say("STARTTLS").startswith("503 5.5.1")
        client.envelope()
        assert client.say("text\r\n.").startswith("250")
    (stored,) = server.take("alice")
    assert b"Received: from after.example.net ([127.0.0.1])\n" in stored
    assert b" with ESMTPS id " in stored
    assert re.search(rb"\n\t\(TLSv1\.[23]:[A-Z0-9_-]+\)\n", stored)


def test_rfc3207_4_starttls_has_no_argument_and_comes_outside_transactions(
    server: Program,
) -> None:
    with Talk(server.port) as client:
        client.greet()
        assert client.say("STARTTLS now").startswith("501 5.5.4")
        assert client.say("MAIL FROM:<sender@example.net>").startswith("250")
        assert client.say("STARTTLS").startswith("503 5.5.1")
        assert client.say("RSET").startswith("250")
        assert client.say("STARTTLS").startswith("220 2.0.0")
        deliver(client.secure(), "after all")
    assert len(server.take("alice")) == 1


def test_rfc8314_starttls_is_not_offered_where_tls_is_implicit(server: Program) -> None:
    with Talk(server.smtps_port) as client:
        assert "STARTTLS" not in client.secure().greet()
        assert client.say("STARTTLS").startswith("503 5.5.1")


# -- attacks


@pytest.mark.parametrize(
    "injected", [b"NOOP\r\n", b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n", b"x"]
)
def test_rfc3207_6_octets_behind_starttls_end_the_connection_and_are_not_run(
    server: Program, injected: bytes
) -> None:
    with Talk(server.port) as client:
        client.greet()
        client.send(b"STARTTLS\r\n" + injected)
        assert client.hear().startswith("554 5.5.1")
        assert client.closed()
    assert_serves(server)


def test_rfc3207_6_octets_injected_before_tls_are_not_run_under_it(server: Program) -> None:
    with Talk(server.port) as client:
        client.greet()
        client.envelope()
        # A transaction of before, and a command cut in two by the handshake.
        assert client.say("text\r\n.").startswith("250")
        assert client.say("STARTTLS").startswith("220")
        with Segments(client.socket) as segments:
            segments.send(b"MAIL FROM:<>\r\nRCP")
        assert client.closed()
    assert len(server.take("alice")) == 1
    assert_serves(server)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=list(GARBAGE))
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "smtps"])
def test_garbage_instead_of_a_handshake_ends_the_connection(
    hasty: Program, garbage: bytes, *, implicit: bool
) -> None:
    with Talk(hasty.smtps_port if implicit else hasty.port) as client:
        if not implicit:
            client.greet()
            assert client.say("STARTTLS").startswith("220")
        client.send(garbage)
        assert_ends_in_time(client)


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "smtps"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_half_a_client_hello_and_silence_end_within_the_deadline(
    hasty: Program, share: float, *, implicit: bool
) -> None:
    hello = client_hello(b"mx.example.org")
    with Talk(hasty.smtps_port if implicit else hasty.port) as client:
        if not implicit:
            client.greet()
            assert client.say("STARTTLS").startswith("220")
        client.send(hello[: int(share * len(hello))])
        assert_ends_in_time(client)


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "smtps"])
def test_client_hello_by_octets_does_not_stretch_the_deadline(
    hasty: Program, *, implicit: bool
) -> None:
    with Talk(hasty.smtps_port if implicit else hasty.port) as client:
        if not implicit:
            client.greet()
            assert client.say("STARTTLS").startswith("220")
        started = time.monotonic()
        client.socket.settimeout(0.1)
        hello = iter(octet_by_octet(client_hello(b"mx.example.org")))
        while not has_ended(client, next(hello)):
            assert time.monotonic() - started < DEADLINE + GRACE


def has_ended(client: Talk, octet: bytes) -> bool:
    """Send an octet and listen for a moment: whether the server has closed."""
    try:
        client.send(octet)
        while client.socket.recv(1000):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def assert_ends_in_time(client: Talk) -> None:
    """The server closes, perhaps with an alert or a last reply, within its deadline."""
    client.socket.settimeout(DEADLINE + GRACE)
    try:
        while client.socket.recv(1000):
            pass
    except ConnectionResetError:
        pass


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_in_sni_harm_nobody(server: Program, name: bytes) -> None:
    with Talk(server.smtps_port) as client:
        client.send(client_hello(name))
        # It goes on with the handshake, or refuses the name; either in TLS.
        assert client.socket.recv(1) in (b"\x16", b"\x15")
    assert_serves(server)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: mx.example.org\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 29\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n",
        client_hello(b"mx.example.org"),
        client_hello(b"mx.example.org")[:40],
    ],
    ids=["GET", "POST with commands", "ClientHello", "half a ClientHello"],
)
def test_other_protocols_on_the_port_for_smtp_are_dropped(server: Program, said: bytes) -> None:
    with Talk(server.port) as client:
        client.send(said)
        assert client.hear().startswith("220")
        assert client.hear()[:1] == "5"
        assert client.closed()
    assert_serves(server)


# -- what goes over the wire


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "smtps"])
def test_records_of_one_octet_in_segments_of_one_octet_carry_a_message(
    server: Program, *, implicit: bool
) -> None:
    with Talk(server.smtps_port if implicit else server.port) as client:
        if not implicit:
            client.greet()
            assert client.say("STARTTLS").startswith("220")
        with Segments(client.socket) as segments:
            tls = TinyRecords(client.socket, segments)
            expected = [b"250", b"250", b"250", b"354", b"250", b"221"]
            if implicit:
                assert tls.hear().startswith(b"220")
            for command, code in zip(COMMANDS, expected, strict=True):
                tls.say(command)
                assert tls.hear().startswith(code)
    (stored,) = server.take("alice")
    assert stored.endswith(b"\nSubject: tiny\n\n.\n")


T = TypeVar("T")

COMMANDS = [
    b"EHLO c\r\n",
    b"MAIL FROM:<>\r\n",
    b"RCPT TO:<alice@example.org>\r\n",
    b"DATA\r\n",
    b"Subject: tiny\r\n\r\n..\r\n.\r\n",
    b"QUIT\r\n",
]


class TinyRecords:
    """A TLS client each octet of which is a record, and each octet of a record a segment."""

    def __init__(self, sock: socket.socket, segments: Segments) -> None:
        self._socket = sock
        self._segments = segments
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = any_server().wrap_bio(self._incoming, self._outgoing)
        self._pump(self._tls.do_handshake)

    def say(self, octets: bytes) -> None:
        for octet in octet_by_octet(octets):
            self._tls.write(octet)
        self._send()

    def hear(self) -> bytes:
        return self._pump(self._tls.read)

    def _pump(self, action: Callable[[], T]) -> T:
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                self._send()
                self._incoming.write(self._socket.recv(65536))
            else:
                self._send()
                return result

    def _send(self) -> None:
        self._segments.send(*octet_by_octet(self._outgoing.read()))


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_before_tls_1_2_are_refused(server: Program, version: str) -> None:
    command = [needs.tool("openssl"), "s_client", version, "-cipher", "ALL:@SECLEVEL=0"]
    command += ["-connect", f"127.0.0.1:{server.smtps_port}"]
    done = subprocess.run(command, capture_output=True, input=b"", timeout=PATIENCE)
    assert done.returncode == 1
    assert b"alert protocol version" in done.stderr
    assert_serves(server)


def test_missing_close_notify_during_data_is_a_truncation(server: Program) -> None:
    before = len(server.events("connection"))
    for last in (b"", b"\r\n", b"\r\n."):
        with Talk(server.smtps_port) as client:
            client.secure().begin()
            client.send(b"Subject: cut\r\n\r\npay me 100" + last)
            # Closes the connection, and says nothing of it in TLS.
            client.socket.shutdown(socket.SHUT_RDWR)
    eventually(lambda: len(server.events("connection")) == before + 3)
    assert server.files("alice") == []
    assert server.leftovers() == []


# -- certificates and sessions


def shown(port: int, name: str | None = None) -> bytes:
    """The certificate that a client is shown who asks for `name`, in DER."""
    with Talk(port) as client:
        certificate = client.secure(name=name).tls.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def test_sni_chooses_among_two_certificates(tmp_path: Path) -> None:
    first = make_pair(tmp_path, "first", ["mx.example.org"])
    second = make_pair(tmp_path, "second", ["mx.example.com", "*.example.net"])
    tls = {
        "certificate": first.certificate,
        "key": first.key,
        "more": [{"certificate": second.certificate, "key": second.key}],
    }
    with Program.inbound(tmp_path, tls=tls) as server:
        asked = [None, "mx.example.org", "mx.example.com", "a.example.net", "other.example"]
        expected = [first, first, second, second, first]
        for name, pair in zip(asked, expected, strict=True):
            assert shown(server.smtps_port, name) == der(pair.certificate), name
        with Talk(server.port) as client:
            client.start_tls(name="MX.example.com")
            assert client.tls.getpeercert(binary_form=True) == der(second.certificate)


def test_certificate_is_changed_by_hup_without_a_broken_session(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "cert", ["mx.example.org"])
    tls = {"certificate": pair.certificate, "key": pair.key}
    with Program.inbound(tmp_path, tls=tls) as server, Talk(server.port) as client:
        client.start_tls()
        client.hello()
        client.envelope()
        client.send(b"Subject: begun under the old\r\n")
        old = der(pair.certificate)
        make_pair(tmp_path, "cert", ["mx.example.org"])
        server.signal(signal.SIGHUP)
        server.await_event("generation-ready", count=2)
        # Who comes while the old workers still leave may see theirs.
        assert der(pair.certificate) != old
        eventually(lambda: shown(server.smtps_port) == der(pair.certificate))
        assert client.say("\r\nended under the new\r\n.").startswith("250")
        assert client.hear().startswith("421 4.3.2")
        (stored,) = server.stored("alice")
        assert stored.endswith(b"Subject: begun under the old\n\nended under the new\n")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_session_is_resumed_by_every_worker(server: Program, version: ssl.TLSVersion) -> None:
    context = any_server()
    context.minimum_version = context.maximum_version = version
    with Talk(server.smtps_port) as client:
        client.secure(context).greet()
        session = client.tls.session
    # Workers take connections in turn.
    for _ in range(2 * len(server.workers())):
        with Talk(server.smtps_port) as client:
            client.secure(context, session=session).greet()
            assert client.tls.session_reused
            session = client.tls.session
