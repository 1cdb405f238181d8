"""A connection's octets with deadlines, for the server: in clear on the bare descriptor, or TLS.

"Send the replies and wait for the next line" is one call that lets go of the GIL once
(ext/socketio.pyx), in clear and under TLS, which is done in memory (`net.records`).

Whatever goes wrong with the connection leaves here as `StreamTimeout` or `StreamLost`.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from typing import Protocol

from pfsmtp.net import socketio
from pfsmtp.net.records import Records
from pfsmtp.smtp.wire import Input

NEVER = -1
"""A `wake` that ends no wait."""

_LAST_WORD = 10.0
"""Seconds in which a client may take the last reply."""
_LINGER = 1.0
"""Seconds in which a client that is cut off may still read why."""
_LINGER_OCTETS = 262_144

_RECEIVED_AT_ONCE = 4096
"""Octets under TLS; more where that much has come."""
_MUCH = 65536


class StreamTimeout(Exception):
    """The peer sent nothing for as long as was allowed."""


class StreamLost(Exception):
    """The connection broke."""


class Stream(Protocol):
    """A connection to a client."""

    def exchange(self, octets: bytes, into: Input, wait: float, wake: int) -> int:
        """Send `octets`, then wait `wait` seconds for input, and receive it once.

        Returns how much, 0 when the peer has closed, -1 when the descriptor `wake` could be read
        before there was input. Raises StreamTimeout: all has been sent, nothing received;
        StreamLost.
        """
        ...

    def send(self, octets: bytes, wait: float) -> None:
        """Send `octets`. Raises StreamLost, also when nothing moves for `wait` seconds."""
        ...

    def close(self, octets: bytes = b"", *, linger: bool = False) -> None:
        """Send last words, if they are taken, and close. Never raises.

        With `linger`, a client that still sends may read them first: closing at once would reset
        the connection, and what was on its way would be lost.
        """
        ...


class ClearStream:
    """The octets of a descriptor, which is its own from now on."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def exchange(self, octets: bytes, into: Input, wait: float, wake: int) -> int:
        count = _exchange(self._fd, octets, into, wait, wake)
        if count > 0:
            into.received(count)
        return count

    def send(self, octets: bytes, wait: float) -> None:
        _send(self._fd, octets, wait)

    def is_readable(self, wait: float) -> bool:
        """Whether the peer sends something, or closes, within `wait` seconds."""
        try:
            return socketio.wait_for(self._fd, False, wait, NEVER)
        except TimeoutError:
            return False
        except OSError as error:
            raise StreamLost(_reason(error)) from error

    def secure(self, context: ssl.SSLContext, wait: float) -> TLSStream:
        """Negotiate TLS. The descriptor is the new stream's from now on, even on failure.

        Raises StreamTimeout, StreamLost.
        """
        fd, self._fd = self._fd, -1
        return TLSStream(fd, context, wait)

    def close(self, octets: bytes = b"", *, linger: bool = False) -> None:
        fd, self._fd = self._fd, -1
        _close(fd, octets, linger=linger)


class TLSStream:
    """The octets of a descriptor under TLS."""

    __slots__ = ("_buffer", "_fd", "_records")

    def __init__(self, fd: int, context: ssl.SSLContext, wait: float) -> None:
        """Negotiate, as the server, within `wait` seconds."""
        self._fd = fd
        self._buffer = bytearray(_RECEIVED_AT_ONCE)
        self._records = Records(context, server_side=True)
        try:
            self._shake_hands(time.monotonic() + wait)
        except (StreamTimeout, StreamLost):
            self._fd = -1
            _close(fd, self._records.outgoing())  # the alert, if there is one
            raise

    @property
    def state(self) -> ssl.SSLObject:
        return self._records.state

    def exchange(self, octets: bytes, into: Input, wait: float, wake: int) -> int:
        records = self._records
        # A record has to be complete by then, in however many pieces it comes.
        deadline = time.monotonic() + wait
        try:
            records.write(octets)
            count = records.read_into(into)
            if count is not None:
                self._send(wait)
            while count is None:
                came = self._receive(deadline - time.monotonic(), wake)
                if came <= 0:
                    return came
                count = records.read_into(into)
        except ssl.SSLError as error:
            raise StreamLost(_reason(error)) from error
        into.received(count)
        return count

    def send(self, octets: bytes, wait: float) -> None:
        try:
            self._records.write(octets)
        except ssl.SSLError as error:
            raise StreamLost(_reason(error)) from error
        self._send(wait)

    def close(self, octets: bytes = b"", *, linger: bool = False) -> None:
        fd, self._fd = self._fd, -1
        with suppress(ssl.SSLError):
            self._records.write(octets)
        # Sends close_notify, and does not wait for the peer's.
        _close(fd, self._records.farewell(), linger=linger)

    def _shake_hands(self, deadline: float) -> None:
        records = self._records
        try:
            while not records.shake_hands():
                if not self._receive(deadline - time.monotonic(), NEVER):
                    raise StreamLost("the connection was closed")
        except ssl.SSLError as error:
            raise StreamLost(_reason(error)) from error
        self._send(max(deadline - time.monotonic(), 0.0))

    def _receive(self, wait: float, wake: int) -> int:
        """Send what is to go, and receive once, as `exchange` does, but of the records."""
        if wait <= 0.0:
            raise StreamTimeout
        buffer = self._buffer
        count = _exchange(self._fd, self._records.outgoing(), buffer, wait, wake)
        if count > 0:
            self._records.incoming(memoryview(buffer)[:count])
            if count == len(buffer) < _MUCH:
                self._buffer = bytearray(_MUCH)
            elif count < _RECEIVED_AT_ONCE < len(buffer):
                self._buffer = bytearray(_RECEIVED_AT_ONCE)
        return count

    def _send(self, wait: float) -> None:
        octets = self._records.outgoing()
        if octets:
            _send(self._fd, octets, wait)


def _exchange(fd: int, octets: bytes, into: Input | bytearray, wait: float, wake: int) -> int:
    try:
        return socketio.exchange(fd, octets, into, wait, wake)
    except TimeoutError:
        raise StreamTimeout from None
    except OSError as error:
        raise StreamLost(_reason(error)) from error


def _send(fd: int, octets: bytes, wait: float) -> None:
    try:
        socketio.send_all(fd, octets, wait)
    except OSError as error:
        raise StreamLost(_reason(error)) from error


def _close(fd: int, octets: bytes, *, linger: bool = False) -> None:
    if fd < 0:
        return
    if not linger:
        socketio.send_last(fd, octets, _LAST_WORD)
        return
    with suppress(OSError), socket.socket(fileno=fd) as sock:
        socketio.send_all(fd, octets, _LAST_WORD)
        _linger(sock)


def _linger(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + _LINGER
    left = _LINGER_OCTETS
    while left > 0 and (wait := deadline - time.monotonic()) > 0:
        socketio.wait_for(sock.fileno(), False, wait, NEVER)
        octets = socket.socket.recv(sock, 65536, socket.MSG_DONTWAIT)
        if not octets:
            return
        left -= len(octets)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS failed"
    return getattr(error, "strerror", None) or str(error)
