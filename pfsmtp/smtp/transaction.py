"""A mail transaction (RFC 5321 §3.3): from MAIL to the end of the message.

It ends by being dropped; none of its fields is ever reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.extension import MailParameters

if TYPE_CHECKING:
    from pfsmtp.smtp.data import IncomingMessage


class Transaction(Struct):
    """What MAIL and the RCPTs behind it have said, and the message once it comes in."""

    reverse_path: Mailbox | None
    parameters: MailParameters
    recipients: list[Recipient] = field(default_factory=list)
    message: IncomingMessage | None = None  # from DATA or the first BDAT on

    def envelope(self) -> Envelope:
        parameters = self.parameters
        return Envelope(
            self.reverse_path,
            tuple(self.recipients),
            parameters.body,
            parameters.smtputf8,
            parameters.returning,
            parameters.envelope_id,
        )
