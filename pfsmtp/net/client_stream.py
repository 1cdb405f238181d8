"""A connection's octets with deadlines, for the client: in clear, or under TLS.

In clear, "send these commands and wait for the reply" lets go of the GIL once (ext/socketio.pyx).
TLS is done in memory, between the caller and the same call: every wait ends when the caller says,
and no system call is made for `ssl` to find out that it has to wait.

What it leaves to others: making the connection (`dialing`), what is said, how long it may take. It
fails with OSError (TimeoutError and ssl.SSLError are such), and with `NotSent` when octets were to
be sent and surely did not all leave. Deadlines are in the clock's seconds.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from pfsmtp.net import socketio
from pfsmtp.net.records import Records

_NEVER = -1  # a descriptor that ends no wait
_RECEIVED_AT_ONCE = 4096


class NotSent(Exception):
    """Not all octets left, for the reason that is its cause, an OSError."""


class ClientStream:
    """A connection to a server. One thread uses it at a time."""

    __slots__ = ("_buffer", "_clock", "_fd", "_socket", "_tls", "_view")

    def __init__(self, sock: socket.socket, clock: Callable[[], float]) -> None:
        """Take over a connected socket, which blocks and sends at once."""
        self._socket = sock
        self._fd = sock.fileno()
        self._clock = clock
        self._tls: Records | None = None
        self._buffer = bytearray(_RECEIVED_AT_ONCE)
        self._view = memoryview(self._buffer)

    def exchange(self, octets: bytes, deadline: float) -> bytes:
        """Send all, then return the next octets that come in; none when the peer has closed.

        Raises OSError when they have all left, or may have, and NotSent when they have not.
        """
        if self._tls is None:
            return self._exchange(octets, deadline)
        self._tls.write(octets)
        received = self._tls.read(_RECEIVED_AT_ONCE)
        if received:
            self._send(self._tls.outgoing(), deadline)
        while not received:
            came = self._exchange(self._tls.outgoing(), deadline)
            if not came:
                return b""
            self._tls.incoming(came)
            received = self._tls.read(_RECEIVED_AT_ONCE)
        return received

    def send(self, octets: bytes, deadline: float) -> None:
        """Send all; what comes in meanwhile waits. Raises NotSent."""
        if self._tls is not None:
            self._tls.write(octets)
            octets = self._tls.outgoing()
        self._send(octets, deadline)

    def start_tls(
        self, context: ssl.SSLContext, name: str | None, deadline: float
    ) -> ssl.SSLObject:
        """Shake hands, and return what is known of the connection then.

        `name` is whom the host is taken for (SNI) and, by the context's will, verified as.
        """
        tls = Records(context, name=name)
        try:
            while not tls.shake_hands():
                came = self._exchange(tls.outgoing(), deadline)
                if not came:
                    raise ConnectionError("the connection was closed")
                tls.incoming(came)
        except ssl.SSLError:
            # The alert that tells the other side why.
            with suppress(NotSent):
                self._send(tls.outgoing(), deadline)
            raise
        self._tls = tls
        return tls.state

    def last_words(self) -> bytes:
        """What came in and was not read, on a connection that failed. Never waits or raises."""
        try:
            came = self._socket.recv(_RECEIVED_AT_ONCE, socket.MSG_DONTWAIT)
            if self._tls is None or not came:
                return came
            self._tls.incoming(came)
            return self._tls.read(_RECEIVED_AT_ONCE)
        except OSError:
            return b""

    def is_quiet(self) -> bool:
        """Whether nothing came in while nobody listened, not even the end. It never waits."""
        if self._tls is not None and self._tls.has_input:
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        try:
            return not poll.poll(0)
        except OSError:
            return False  # who cannot look had better let go of it

    def say_last(self, octets: bytes) -> None:
        """Send what may get lost. Never waits or raises."""
        with suppress(OSError):
            if self._tls is not None:
                self._tls.write(octets)
                octets = self._tls.outgoing()
            self._socket.send(octets, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Let go of the connection. Never waits or raises."""
        if self._tls is not None:
            with suppress(OSError):
                self._socket.send(self._tls.farewell(), socket.MSG_DONTWAIT)
        with suppress(OSError):
            self._socket.close()

    def _exchange(self, octets: bytes, deadline: float) -> bytes:
        left = self._left(deadline)
        try:
            count = socketio.exchange(self._fd, octets, self._buffer, left, _NEVER)
        except (BrokenPipeError, ConnectionAbortedError) as error:
            # Only sending ends with these: the peer takes no more, for good or for too long.
            raise NotSent from error
        return bytes(self._view[:count])

    def _send(self, octets: bytes, deadline: float) -> None:
        try:
            socketio.send_all(self._fd, octets, self._left(deadline))
        except OSError as error:
            raise NotSent from error

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left
