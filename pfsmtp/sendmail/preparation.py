"""From the command line, the message and who runs it to what the server is to be given."""

from __future__ import annotations

import os

from pfsmtp.sendmail.addresses import split_addresses
from pfsmtp.sendmail.failure import Failure
from pfsmtp.sendmail.message import Message
from pfsmtp.sendmail.options import Options
from pfsmtp.sendmail.submit import Submission
from pfsmtp.sendmail.user import User


def named_recipients(options: Options) -> list[str]:
    """Return the recipients on the command line. Raises Failure if there can be none at all."""
    recipients = [address for text in options.recipients for address in split_addresses(text)]
    if not recipients and not options.recipients_in_header:
        raise Failure(
            os.EX_USAGE, "no recipients: name some, or have -t look for them in the header"
        )
    return recipients


def prepare(options: Options, octets: bytes, *, user: User, domain: str) -> Submission:
    """Make a message with LF line ends a submission; `domain` completes addresses without one.

    Raises Failure.
    """
    recipients = named_recipients(options)
    message = Message(octets)
    if options.recipients_in_header:
        recipients += message.recipients()
        message.hide_recipients()
        if not recipients:
            raise Failure(os.EX_DATAERR, "the header has no recipients")
    sender = _sender(options, user, domain)
    message.add_from(
        sender or _complete(user.mailbox, domain),
        user.full_name if options.full_name is None else options.full_name,
    )
    # Twice the same address would be twice the same mail.
    complete = list(dict.fromkeys(_complete(address, domain) for address in recipients))
    submission = Submission(sender, complete, message.on_the_wire())
    submission.eight_bit |= options.eight_bit
    submission.notify = options.notify
    submission.returning = options.returning
    submission.envelope_id = options.envelope_id
    return submission


def _sender(options: Options, user: User, domain: str) -> str:
    """Return the reverse-path: -f, else the user who runs this."""
    if options.sender is None:
        return _complete(user.mailbox, domain)
    given = split_addresses(options.sender)
    return _complete(given[0], domain) if given else ""


def _complete(address: str, domain: str) -> str:
    """Give an address without a domain the one of this machine."""
    return address if "@" in address else f"{address}@{domain}"
