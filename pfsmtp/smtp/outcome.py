"""What became of a recipient in a delivery attempt: what the relay says and the queue records."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from pfsmtp.smtp.status import Status

# What it means that a remote refused a command; for all others it is the message that was refused.
_REFUSED = {
    "connection": "the connection",
    "EHLO": "our greeting",
    "HELO": "our greeting",
    "STARTTLS": "to encrypt",
    "AUTH": "our credentials",
    "MAIL": "the sender",
    "RCPT": "the recipient",
}


class Kind(StrEnum):
    """How an attempt ended for one recipient."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"  # to be tried again
    FAILED = "failed"  # for good


class Outcome(Struct, frozen=True):
    """How it ended, and who said so; all text is clean and bounded, fit for a log or a bounce.

    `text` is what the remote replied to `command`, with its code, lines separated by LF; or it is
    ours, what happened in one sentence, when `command` is empty.
    """

    kind: Kind
    status: Status
    text: str
    host: str = ""  # the name of the remote; "" when none was asked
    address: str = ""  # its IP address
    command: str = ""
    tls: str | None = None  # version, cipher, and whether the certificate was valid
    uncertain: bool = False  # all was sent and nothing came back: it may have been taken
    notifies: bool = False  # the remote took over the DSN wishes (RFC 3461 §5.2.3)

    @property
    def is_final(self) -> bool:
        return self.kind is not Kind.DEFERRED

    @property
    def reply(self) -> str | None:
        """What the remote said."""
        return self.text if self.command else None

    @property
    def reason(self) -> str:
        """What happened, in our words: `mx.example.org refused the recipient`."""
        if not self.command:
            return self.text
        if self.kind is Kind.DELIVERED:
            return f"{self.host} took the message"
        return f"{self.host} refused {_REFUSED.get(self.command, 'the message')}"
