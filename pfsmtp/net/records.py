"""TLS between octets in memory: what is said, and the records that stand for it on the wire.

No system call is made here: whoever has the connection sends and receives, and so can wait as it
does in clear. Only errors of TLS itself are raised, ssl.SSLError.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

from pfsmtp.smtp.wire import Input

_LONGEST_RECORD = 16384
"""Octets (RFC 8446 §5.1)."""


class Records:
    """One side of a connection under TLS."""

    __slots__ = ("_from_peer", "_to_peer", "state")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool = False, name: str | None = None
    ) -> None:
        """`name` is whom a server is taken for (SNI) and, by the context's will, verified as."""
        self._from_peer = ssl.MemoryBIO()
        self._to_peer = ssl.MemoryBIO()
        self.state = context.wrap_bio(
            self._from_peer, self._to_peer, server_side=server_side, server_hostname=name
        )

    def shake_hands(self) -> bool:
        """Go on with the handshake; False while the peer is to say something."""
        try:
            self.state.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def incoming(self, octets: bytes | memoryview) -> None:
        """Take what came from the peer."""
        self._from_peer.write(octets)

    def outgoing(self) -> bytes:
        """What is to go to the peer."""
        return self._to_peer.read()

    @property
    def has_input(self) -> bool:
        return bool(self._from_peer.pending or self.state.pending())

    def write(self, octets: bytes) -> None:
        if octets:
            self.state.write(octets)

    def read(self, most: int) -> bytes:
        """What the peer has said; nothing when more has to come in first."""
        if not self.has_input:
            return b""
        try:
            return self.state.read(most)
        except ssl.SSLWantReadError:
            return b""

    def read_into(self, into: Input) -> int | None:
        """As `read`, into a buffer: how much, 0 at the end of what the peer says, or None."""
        if not self.has_input:
            return None
        try:
            # With a buffer, it returns a number.
            return self.state.read(_LONGEST_RECORD, into)  # type: ignore[return-value]
        except ssl.SSLWantReadError:
            return None

    def farewell(self) -> bytes:
        """The end of what we say (RFC 8446 §6.1), behind what is still to go to the peer."""
        with suppress(OSError):
            self.state.unwrap()
        return self._to_peer.read()
