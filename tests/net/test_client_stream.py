"""The client's stream over real sockets: every wait ends, and it is known what has left."""

from __future__ import annotations

import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pfsmtp.net.client_stream import ClientStream, NotSent
from pfsmtp.tls import client_context
from tests.certificates import make_pair


@pytest.fixture
def pair() -> Iterator[tuple[ClientStream, socket.socket]]:
    """A stream, and the other end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        far.settimeout(10)
        stream = ClientStream(near, time.monotonic)
        yield stream, far
        stream.close()
        far.close()


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_exchange_sends_all_and_returns_what_comes_next(
    pair: tuple[ClientStream, socket.socket],
) -> None:
    stream, far = pair
    far.sendall(b"220 mx\r\n")
    assert stream.exchange(b"EHLO us\r\n", soon()) == b"220 mx\r\n"
    assert far.recv(100) == b"EHLO us\r\n"


def test_exchange_returns_nothing_when_the_peer_has_closed(
    pair: tuple[ClientStream, socket.socket],
) -> None:
    stream, far = pair
    far.shutdown(socket.SHUT_WR)
    assert stream.exchange(b"", soon()) == b""


def test_wait_ends_at_the_deadline(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, _ = pair
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        stream.exchange(b"EHLO us\r\n", soon(0.05))
    assert 0.04 < time.monotonic() - began < 1
    with pytest.raises(TimeoutError):
        stream.exchange(b"", soon(-1))


def test_peer_that_takes_nothing_is_known_not_to_have_got_all(
    pair: tuple[ClientStream, socket.socket],
) -> None:
    stream, _ = pair
    with pytest.raises(NotSent):
        stream.send(50_000_000 * b"a", soon(0.1))
    with pytest.raises(NotSent):
        stream.exchange(50_000_000 * b"a", soon(0.1))


def test_large_octets_arrive_whole(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, far = pair
    octets = bytes(range(256)) * 40_000
    received = bytearray()

    def read() -> None:
        while len(received) < len(octets):
            received.extend(far.recv(100_000))
        far.sendall(b"250 ok\r\n")

    thread = threading.Thread(target=read)
    thread.start()
    stream.send(octets[:-10], soon())
    assert stream.exchange(octets[-10:], soon()) == b"250 ok\r\n"
    thread.join()
    assert received == octets


def test_broken_connection_is_an_error(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, far = pair
    reset(far)
    with pytest.raises((ConnectionResetError, NotSent)):
        stream.exchange(b"NOOP\r\n", soon())
    with pytest.raises(NotSent):
        stream.exchange(b"NOOP\r\n", soon())
    with pytest.raises(NotSent):
        stream.send(b"NOOP\r\n", soon())


def test_last_words_of_a_connection_that_broke(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, far = pair
    far.sendall(b"421 bye\r\n")
    far.close()
    end = soon()
    with suppress(NotSent):
        while time.monotonic() < end:
            stream.send(b"NOOP\r\n", end)
    assert stream.last_words() == b"421 bye\r\n"
    assert stream.last_words() == b""


def test_no_last_words(pair: tuple[ClientStream, socket.socket]) -> None:
    assert pair[0].last_words() == b""


def test_quiet_until_something_comes(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, far = pair
    assert stream.is_quiet()
    far.sendall(b"4")
    end = soon()
    while stream.is_quiet():
        assert time.monotonic() < end
    stream.exchange(b"", soon())
    assert stream.is_quiet()
    far.close()
    while stream.is_quiet():
        assert time.monotonic() < end


def test_who_cannot_look_takes_it_for_not_quiet(
    pair: tuple[ClientStream, socket.socket],
) -> None:
    stream, _ = pair
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # poll(2) fails: EINVAL
    try:
        quiet = stream.is_quiet()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not quiet


def test_last_said_never_waits(pair: tuple[ClientStream, socket.socket]) -> None:
    stream, far = pair
    stream.say_last(b"QUIT\r\n")
    assert far.recv(100) == b"QUIT\r\n"
    with suppress(NotSent):
        stream.send(50_000_000 * b"a", soon(0.05))
    stream.say_last(b"QUIT\r\n")
    far.close()
    stream.say_last(b"QUIT\r\n")


# --------------------------------------------------------------------------------- TLS


@pytest.fixture
def server(tmp_path: Path) -> ssl.SSLContext:
    pair = make_pair(tmp_path, "a", ["mx.example.org"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


class Secured:
    """The far end under TLS, in a thread while the hands are shaken."""

    def __init__(self, far: socket.socket, context: ssl.SSLContext) -> None:
        self._thread = threading.Thread(target=self._shake, args=(far, context))
        self._socket: ssl.SSLSocket | None = None
        self.error: OSError | None = None
        self._thread.start()

    def _shake(self, far: socket.socket, context: ssl.SSLContext) -> None:
        try:
            # Not to take an end without close_notify for an end.
            self._socket = context.wrap_socket(far, server_side=True, suppress_ragged_eofs=False)
        except OSError as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(10)

    @property
    def socket(self) -> ssl.SSLSocket:
        self.join()
        assert self._socket is not None
        return self._socket


@pytest.fixture
def secured(
    pair: tuple[ClientStream, socket.socket], server: ssl.SSLContext
) -> Iterator[tuple[ClientStream, ssl.SSLSocket]]:
    stream, far = pair
    end = Secured(far, server)
    state = stream.start_tls(client_context(verify=False), "mx.example.org", soon())
    assert state.version() == "TLSv1.3"
    # The last message of the handshake leaves with what is said first.
    stream.send(b"EHLO us\r\n", soon())
    assert end.socket.recv(100) == b"EHLO us\r\n"
    yield stream, end.socket
    end.socket.close()


def test_exchange_under_tls(secured: tuple[ClientStream, ssl.SSLSocket]) -> None:
    stream, far = secured
    far.sendall(b"250 mx\r\n")
    assert stream.exchange(b"MAIL\r\n", soon()) == b"250 mx\r\n"
    assert far.recv(100) == b"MAIL\r\n"
    with pytest.raises(TimeoutError):
        stream.exchange(b"RCPT\r\n", soon(0.05))


def test_large_record_comes_in_pieces(secured: tuple[ClientStream, ssl.SSLSocket]) -> None:
    stream, far = secured
    octets = bytes(range(256)) * 64
    far.sendall(octets)
    received = stream.exchange(b"NOOP\r\n", soon())
    assert not stream.is_quiet()
    assert far.recv(100) == b"NOOP\r\n"
    while len(received) < len(octets):
        # What was said is sent although there is something to read already.
        received += stream.exchange(b"RSET\r\n", soon())
        assert far.recv(100) == b"RSET\r\n"
    assert received == octets
    assert stream.is_quiet()


def test_large_octets_arrive_whole_under_tls(
    secured: tuple[ClientStream, ssl.SSLSocket],
) -> None:
    stream, far = secured
    octets = bytes(range(256)) * 20_000
    received = bytearray()

    def read() -> None:
        while len(received) < len(octets):
            received.extend(far.recv(100_000))

    thread = threading.Thread(target=read)
    thread.start()
    stream.send(octets, soon())
    thread.join()
    assert received == octets


def test_end_under_tls(secured: tuple[ClientStream, ssl.SSLSocket]) -> None:
    stream, far = secured
    far.sendall(b"421 bye\r\n")
    far.close()
    end = soon()
    while stream.is_quiet():
        assert time.monotonic() < end
    assert stream.exchange(b"", soon()) == b"421 bye\r\n"
    assert stream.exchange(b"", soon()) == b""


def test_close_says_goodbye_under_tls(secured: tuple[ClientStream, ssl.SSLSocket]) -> None:
    stream, far = secured
    stream.close()
    assert far.recv(100) == b""


def test_handshake_with_a_certificate_that_is_not_trusted_tells_the_peer(
    pair: tuple[ClientStream, socket.socket], server: ssl.SSLContext
) -> None:
    stream, far = pair
    end = Secured(far, server)
    with pytest.raises(ssl.SSLCertVerificationError):
        stream.start_tls(client_context(verify=True), "mx.example.org", soon())
    end.join()
    assert isinstance(end.error, ssl.SSLError)
    assert "ALERT" in str(end.error).upper()


@pytest.mark.parametrize("octets", [b"250 in clear\r\n", b"\x16\x03\x03\x00\x02\x02\x00", b""])
def test_handshake_that_fails(pair: tuple[ClientStream, socket.socket], octets: bytes) -> None:
    stream, far = pair
    far.sendall(octets)
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match=r"(?i)closed|SSL"):
        stream.start_tls(client_context(verify=False), "mx.example.org", soon())


def test_handshake_ends_at_the_deadline(pair: tuple[ClientStream, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        pair[0].start_tls(client_context(verify=False), None, soon(0.05))


@pytest.mark.parametrize("name", ["", ".", "a..b", 70 * "a" + ".org", "192.0.2.1"])
def test_name_that_cannot_be_sent_is_an_error_or_left_out(
    pair: tuple[ClientStream, socket.socket], name: str
) -> None:
    with pytest.raises((ValueError, TimeoutError)):
        pair[0].start_tls(client_context(verify=False), name, soon(0.05))
