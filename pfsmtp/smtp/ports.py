"""What the dialogue asks of the world; the rooms above implement it, tests have fakes.

A port may block the thread that calls it. It reports failure with `DeliveryFailure`.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Encryption, Envelope, Origin, Recipient
from pfsmtp.smtp.reply import Reply


class Peer(Struct):
    """Who is at the other end of a connection, and which of our addresses it came to."""

    address: str  # IP address, without brackets; ::ffff:a.b.c.d is given as a.b.c.d
    port: int
    local_address: str
    encryption: Encryption | None = None
    loopback: bool = False


class AccessPolicy(Protocol):
    """Who may send to whom. Each question is answered by a refusal, or None to let it pass."""

    def sender(self, peer: Peer, reverse_path: Mailbox | None) -> Reply | None: ...

    def recipient(
        self, peer: Peer, reverse_path: Mailbox | None, mailbox: Mailbox
    ) -> Reply | None: ...


class Receipt(Struct, frozen=True):
    """A message is safe: what the 250 and the log say of it."""

    id: str
    files: tuple[str, ...] = ()


class Intake(Protocol):
    """One message on its way in, from DATA (or the first BDAT) to the final dot.

    Ends with exactly one of `commit` and `abort`; after either, nothing is left in `tmp/`.
    """

    id: str

    def write(self, octets: bytes) -> None:
        """Take the next octets of the message, in order. Raises DeliveryFailure."""
        ...

    def commit(self) -> Receipt:
        """Make the message safe for every recipient, or for none and raise DeliveryFailure.

        When it returns, files and directory entries are on disk.
        """
        ...

    def abort(self) -> None:
        """Forget the message. Never raises."""
        ...


class MessageStore(Protocol):
    """The final delivery, and all in which the two servers differ."""

    line_end: bytes
    """How lines are to end in what `Intake.write` is given: CRLF or LF."""

    def begin(self, envelope: Envelope, origin: Origin) -> Intake:
        """Start taking a message in. Raises DeliveryFailure; cheap, touches no disk."""
        ...

    def room_for(self, size: int) -> bool:
        """Whether `size` octets more would fit on the disk (SIZE= at MAIL, RFC 1870 §6.1)."""
        ...


__all__ = [
    "AccessPolicy",
    "Encryption",
    "Envelope",
    "Intake",
    "MessageStore",
    "Origin",
    "Peer",
    "Receipt",
    "Recipient",
]
