"""Reports as the outbound server makes them."""

from __future__ import annotations

import os

from pfsmtp.message import dsn
from pfsmtp.message.report import RecipientReport, Report
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.status import Status


def mailbox(text: str) -> Mailbox:
    return Mailbox(*text.rsplit("@", 1))


def bounce(*recipients: str, number: int = 12) -> bytes:
    """A report to the sender of a message that these could not be reached."""
    sender = mailbox(f"crashtest+{number}@[127.0.0.1]")
    failed = [Recipient(mailbox(recipient)) for recipient in recipients]
    report = Report(
        sender,
        "out.example.org",
        Envelope(sender, tuple(failed)),
        1e9,
        tuple(
            RecipientReport(each, "failed", Status(5, 1, 1), reason="there is nobody")
            for each in failed
        ),
    )
    original = b"Subject: it\r\n\r\ntext\r\n"
    _, octets = dsn.compose(report, original, whole=True, when=1e9, random=os.urandom)
    return octets
