"""A connection's octets with deadlines, for the server: in clear on the bare descriptor, or TLS.

In clear, "send the replies and wait for the next line" is one call that lets go of the GIL once
(ext/socketio.pyx). A stream that has been secured goes through `ssl`, with the same interface.

Whatever goes wrong with the connection leaves here as `StreamTimeout` or `StreamLost`.
"""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from typing import Protocol

from pfsmtp.net import _socketio
from pfsmtp.smtp.wire import Input

_LINGER = 1.0
"""Seconds in which a client that is cut off may still read why."""
_LINGER_OCTETS = 262_144


class StreamTimeout(Exception):
    """The peer sent nothing for as long as was allowed."""


class StreamLost(Exception):
    """The connection broke."""


class Stream(Protocol):
    """A connection to a client."""

    def exchange(self, octets: bytes, into: Input, wait: float) -> int:
        """Send `octets`, and receive once, within `wait` seconds; 0 when the peer has closed.

        Raises StreamTimeout, and all has been sent but nothing received; StreamLost.
        """
        ...

    def send(self, octets: bytes, wait: float) -> None:
        """Send `octets`. Raises StreamLost, also when nothing moves for `wait` seconds."""
        ...

    def wake(self) -> None:
        """End a receive that is under way in another thread: it finds the input at its end."""
        ...

    def close(self) -> None: ...


class ClearStream:
    """The octets of a descriptor whose SO_RCVTIMEO and SO_SNDTIMEO are `patience` seconds."""

    __slots__ = ("_patience", "fd")

    def __init__(self, fd: int, patience: float) -> None:
        self.fd = fd
        self._patience = patience

    def exchange(self, octets: bytes, into: Input, wait: float) -> int:
        try:
            count = _socketio.exchange(self.fd, octets, into, wait, wait >= self._patience)
        except TimeoutError:
            raise StreamTimeout from None
        except OSError as error:
            raise StreamLost(_reason(error)) from error
        into.received(count)
        return count

    def send(self, octets: bytes, wait: float) -> None:
        try:
            _socketio.send_all(self.fd, octets, wait)
        except OSError as error:
            raise StreamLost(_reason(error)) from error

    def readable(self, wait: float) -> bool:
        """Whether the peer sends something, or closes, within `wait` seconds."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(wait * 1000))

    def wake(self) -> None:
        with suppress(OSError), self._borrowed() as sock:
            sock.shutdown(socket.SHUT_RD)

    def linger(self) -> None:
        """Let a client that still sends read our last words: closing at once would reset them."""
        with suppress(OSError), self._borrowed() as sock:
            sock.shutdown(socket.SHUT_WR)
            left = _LINGER_OCTETS
            while left > 0 and self.readable(_LINGER):
                octets = sock.recv(65536)
                if not octets:
                    return
                left -= len(octets)

    def secure(self, context: ssl.SSLContext, wait: float) -> TLSStream:
        """Negotiate TLS. The descriptor is the new stream's from now on, even on failure.

        Raises StreamTimeout, StreamLost.
        """
        sock = socket.socket(fileno=self.fd)
        self.fd = -1
        return TLSStream(sock, context, wait)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                socket.close(fd)

    def _borrowed(self) -> _Borrowed:
        return _Borrowed(self.fd)


class _Borrowed:
    """A socket object around a descriptor that stays somebody else's."""

    __slots__ = ("_socket",)

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.detach()


class TLSStream:
    """The octets of a connection under TLS."""

    __slots__ = ("_socket", "_wait")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, wait: float) -> None:
        """Negotiate, as the server, within `wait` seconds."""
        sock.settimeout(wait)
        self._wait = wait
        try:
            self._socket = context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
        except OSError as error:
            sock.close()
            raise StreamLost(str(error)) from error
        try:
            self._socket.do_handshake()
        except TimeoutError:
            self._socket.close()
            raise StreamTimeout from None
        except (OSError, ValueError) as error:
            self._socket.close()
            raise StreamLost(_reason(error)) from error

    @property
    def socket(self) -> ssl.SSLSocket:
        return self._socket

    def exchange(self, octets: bytes, into: Input, wait: float) -> int:
        if octets:
            self.send(octets, wait)
        self._set_wait(wait)
        try:
            count = self._socket.recv_into(into)
        except TimeoutError:
            raise StreamTimeout from None
        except (OSError, ValueError) as error:
            raise StreamLost(_reason(error)) from error
        into.received(count)
        return count

    def send(self, octets: bytes, wait: float) -> None:
        self._set_wait(wait)
        try:
            self._socket.sendall(octets)
        except (OSError, ValueError) as error:
            raise StreamLost(_reason(error)) from error

    def wake(self) -> None:
        with suppress(OSError):
            # Not SSLSocket.shutdown, which would forget the TLS state under the reading thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RD)

    def close(self) -> None:
        with suppress(OSError, ValueError):
            # Send close_notify, and do not wait for the peer's.
            self._socket.settimeout(0)
            self._socket.unwrap()
        with suppress(OSError):
            self._socket.close()

    def _set_wait(self, wait: float) -> None:
        # Each change is a system call, so small ones wait until they matter.
        if wait < self._wait or wait > self._wait * 1.5:
            self._socket.settimeout(wait)
            self._wait = wait


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS failed"
    return getattr(error, "strerror", None) or str(error)
