"""What a delivery status notification is to say, as values; `dsn` makes the message of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.status import Status

# RFC 3464 §2.3.3
Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What became of the message for one recipient; times are in Unix seconds."""

    recipient: Recipient
    action: Action
    status: Status
    reason: str
    """What happened, in our words: `mx.example.org refused the recipient`."""
    remote: str | None = None
    """The host whose words `reply` are: a name, or `[address]`."""
    reply: str | None = None
    """What the remote host said, with its code; lines are separated by LF."""
    attempted: float | None = None
    retry_until: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a notification says: about which message, to whom, and recipient by recipient."""

    to: Mailbox
    """The reverse-path of the message, or the postmaster when it has none."""
    hostname: str
    envelope: Envelope
    arrived: float
    """When the message was taken on, in Unix seconds."""
    recipients: tuple[RecipientReport, ...]
