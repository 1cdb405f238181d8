"""A connection's octets with deadlines, for the server: in clear on the bare descriptor, or TLS.

In clear, "send the replies and wait for the next line" is one call that lets go of the GIL once
(ext/socketio.pyx). A stream that has been secured goes through `ssl`, with the same interface.

Whatever goes wrong with the connection leaves here as `StreamTimeout` or `StreamLost`.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from typing import Protocol

from pfsmtp.net import socketio
from pfsmtp.smtp.wire import Input

NEVER = -1
"""A `wake` that ends no wait."""

_LAST_WORD = 10.0
"""Seconds in which a client may take the last reply."""
_LINGER = 1.0
"""Seconds in which a client that is cut off may still read why."""
_LINGER_OCTETS = 262_144


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
        try:
            count = socketio.exchange(self._fd, octets, into, wait, wake)
        except TimeoutError:
            raise StreamTimeout from None
        except OSError as error:
            raise StreamLost(_reason(error)) from error
        if count > 0:
            into.received(count)
        return count

    def send(self, octets: bytes, wait: float) -> None:
        try:
            socketio.send_all(self._fd, octets, wait)
        except OSError as error:
            raise StreamLost(_reason(error)) from error

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
        try:
            sock = socket.socket(fileno=self._fd)
        except OSError as error:
            raise StreamLost(_reason(error)) from error
        self._fd = -1
        return TLSStream(sock, context, wait)

    def close(self, octets: bytes = b"", *, linger: bool = False) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if not linger:
            socketio.send_last(fd, octets, _LAST_WORD)
            return
        with suppress(OSError), socket.socket(fileno=fd) as sock:
            socketio.send_all(fd, octets, _LAST_WORD)
            _linger(sock)


class TLSStream:
    """The octets of a connection under TLS."""

    __slots__ = ("_fd", "_socket")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, wait: float) -> None:
        """Negotiate, as the server, within `wait` seconds."""
        sock.setblocking(False)
        self._fd = sock.fileno()
        try:
            self._socket = context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
        except (OSError, ValueError) as error:
            sock.close()
            raise StreamLost(_reason(error)) from error
        try:
            self._shake_hands(time.monotonic() + wait)
        except (StreamTimeout, StreamLost):
            self._socket.close()
            raise

    @property
    def socket(self) -> ssl.SSLSocket:
        return self._socket

    def exchange(self, octets: bytes, into: Input, wait: float, wake: int) -> int:
        if octets:
            self.send(octets, wait)
        # A record has to be complete by then, in however many pieces it comes.
        deadline = time.monotonic() + wait
        while True:
            try:
                count = self._socket.recv_into(into)
            except ssl.SSLWantReadError:
                if not self._wait(deadline - time.monotonic(), wake=wake):
                    return -1
            except ssl.SSLWantWriteError:
                self._wait(deadline - time.monotonic(), write=True)
            except (OSError, ValueError) as error:
                raise StreamLost(_reason(error)) from error
            else:
                into.received(count)
                return count

    def send(self, octets: bytes, wait: float) -> None:
        left = memoryview(octets)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except ssl.SSLWantWriteError:
                try:
                    self._wait(wait, write=True)
                except StreamTimeout:
                    raise StreamLost("the peer does not read") from None
            except ssl.SSLWantReadError:
                self._wait(wait)
            except (OSError, ValueError) as error:
                raise StreamLost(_reason(error)) from error

    def close(self, octets: bytes = b"", *, linger: bool = False) -> None:
        with suppress(StreamLost, StreamTimeout):
            self.send(octets, _LAST_WORD)
        with suppress(OSError, ValueError):
            # Sends close_notify, and does not wait for the peer's.
            self._socket.unwrap()
        with suppress(OSError), self._socket as sock:
            if linger:
                _linger(sock)

    def _shake_hands(self, deadline: float) -> None:
        while True:
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._wait(deadline - time.monotonic())
            except ssl.SSLWantWriteError:
                self._wait(deadline - time.monotonic(), write=True)
            except (OSError, ValueError) as error:
                raise StreamLost(_reason(error)) from error

    def _wait(self, wait: float, *, write: bool = False, wake: int = NEVER) -> bool:
        if wait <= 0.0:
            raise StreamTimeout
        try:
            return socketio.wait_for(self._fd, write, wait, wake)
        except TimeoutError:
            raise StreamTimeout from None
        except OSError as error:
            raise StreamLost(_reason(error)) from error


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
