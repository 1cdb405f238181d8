"""What a delivery status notification tells a person.

What failed, where, what the other side said, and what to do about it: plain text, in lines of 72
characters, with CRLF. The advice follows from the enhanced status (RFC 3463), since that is all
that hosts agree on.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from pfsmtp.message.clean import clean
from pfsmtp.message.header import find_field
from pfsmtp.message.report import Action, RecipientReport, Report
from pfsmtp.message.trace import date
from pfsmtp.smtp.status import Status

WIDTH = 72
QUOTED_LINES = 12
"""Lines of a remote's reply that are quoted; a real one has one or two."""

# In the order in which a report tells them: the worst first.
_SUBJECTS: dict[Action, str] = {
    "failed": "Not delivered: your message to {}",
    "delayed": "Delayed: your message to {}",
    "relayed": "Passed on: your message to {}",
    "delivered": "Delivered: your message to {}",
    "expanded": "Delivered: your message to {}",
}

_OPENINGS: dict[Action, str] = {
    "failed": "Your message could not be delivered to {}. It will not be tried again.",
    "delayed": "Your message has not been delivered to {} yet. You need do nothing: this server"
    " goes on trying, and tells you if it gives up.",
    "relayed": "Your message has been passed on to the mail server of {}. That server does not"
    " confirm deliveries, so this is the last you will hear of it, unless it fails there.",
    "delivered": "Your message has been delivered to {}.",
    "expanded": "Your message has been delivered to {}, and is sent on to the members of a list.",
}

# RFC 3463 §3.2 to §3.8, by subject and detail; detail None is for all others of the subject.
_ADVICE: dict[tuple[int, int | None], str] = {
    (1, 1): "Check the part of the address before the @ for mistakes, and whether the person still"
    " uses this address.",
    (1, 2): "Check the part of the address after the @ for mistakes.",
    (1, 10): "This domain takes no mail at all. Look for another address.",
    (1, None): "Check the address for mistakes.",
    (2, 1): "The mailbox is closed. Reach the person in another way.",
    (2, 2): "The mailbox is full. Send the message again when there is room, or reach the person"
    " in another way.",
    (2, 3): "The message is too large for this mailbox. Send a smaller one, or a link to what was"
    " attached.",
    (2, None): "Something is wrong with this mailbox. Reach the person in another way.",
    (3, 4): "The message is too large for this server. Send a smaller one, or a link to what was"
    " attached.",
    (3, None): "Something is wrong with the mail server there. Send the message again later.",
    (4, 4): "Check the part of the address after the @ for mistakes.",
    (4, 6): "The message went round in circles. Tell the postmaster of that domain.",
    (4, 7): "The mail server there could not be reached, or did not take the message, for too long."
    " Check the address, and send the message again later.",
    (4, None): "The mail server there could not be reached. Send the message again later.",
    (5, None): "The two mail servers did not understand each other. Tell the postmaster of yours.",
    (
        6,
        3,
    ): "The mail server there takes no 8-bit text, and the message is signed, so that it cannot"
    " be rewritten. Send it again without a signature.",
    (6, 7): "The mail server there does not take addresses with letters other than a to z. Use an"
    " address with such letters only, for yourself and for the recipient.",
    (6, None): "The mail server there cannot take a message of this form. Send it as plain text.",
    (7, None): "The mail server there refuses this message by its own rules. What it says above may"
    " tell why; else ask its postmaster, or the person in another way.",
}
_GENERAL_ADVICE = "Send the message again later, or reach the person in another way."


def subject(report: Report) -> str:
    """Return the Subject of the notification: the worst of what it tells."""
    action = _actions(report)[0]
    return _SUBJECTS[action].format(_who(_of(report, action)))


def explain(report: Report, header: bytes, *, whole: bool) -> str:
    """Return the text of the notification, in lines with CRLF.

    `header` is that of the message, `whole` whether the notification quotes all of it.
    """
    paragraphs = [_wrap(f"This is the mail server {report.hostname}.")]
    if report.to != report.envelope.reverse_path:
        paragraphs.append(_wrap(_to_postmaster(report)))
    for action in _actions(report):
        recipients = _of(report, action)
        paragraphs.append(_wrap(_OPENINGS[action].format(_who(recipients))))
        paragraphs += map(_tell, recipients)
    paragraphs.append(_identify(report, header))
    attached = "The message is attached." if whole else "Its header is attached."
    paragraphs.append(_wrap(f"{attached} A report for programs lies between."))
    return "\n\n".join(paragraphs).replace("\n", "\r\n") + "\r\n"


def _actions(report: Report) -> list[Action]:
    happened = {recipient.action for recipient in report.recipients}
    return [action for action in _SUBJECTS if action in happened]


def _of(report: Report, action: Action) -> list[RecipientReport]:
    return [recipient for recipient in report.recipients if recipient.action == action]


def _who(recipients: Sequence[RecipientReport]) -> str:
    """The address of the one recipient, or how many there are."""
    address = clean(str(recipients[0].recipient.mailbox))
    # A Subject would have to encode what is not ASCII, or long.
    if len(recipients) == 1 and address.isascii() and len(address) <= WIDTH:
        return address
    return "one recipient" if len(recipients) == 1 else f"{len(recipients)} recipients"


def _to_postmaster(report: Report) -> str:
    sender = report.envelope.reverse_path
    message = "a notification, which has no sender" if sender is None else f"a message of {sender}"
    return f"You get this as postmaster: what it calls your message is {clean(message)}."


def _tell(report: RecipientReport) -> str:
    """One recipient: the address, what happened, what was said, what to do."""
    lines = [_wrap(f"<{clean(str(report.recipient.mailbox))}>", indent=2)]
    lines.append(_wrap(clean(report.reason), indent=4))
    if report.reply is not None:
        speaker = "The server there" if report.remote is None else clean(report.remote)
        lines.append(_wrap(f"{speaker} said:", indent=4))
        lines += _quote(report.reply)
    lines += [_wrap(line, indent=4) for line in _advise(report)]
    return "\n".join(lines)


def _quote(reply: str) -> list[str]:
    lines = [clean(line) for line in reply.split("\n")]
    quoted = [_wrap(line, indent=6) for line in lines[:QUOTED_LINES] if line]
    return [*quoted, "      ..."] if len(lines) > QUOTED_LINES else quoted


def _advise(report: RecipientReport) -> Iterator[str]:
    if report.action == "failed":
        yield f"What to do: {_advice(report.status)}"
    elif report.action == "delayed" and report.retry_until is not None:
        yield f"It will be tried until {date(report.retry_until)}."


def _advice(status: Status) -> str:
    exact = _ADVICE.get((status.subject, status.detail))
    return exact or _ADVICE.get((status.subject, None), _GENERAL_ADVICE)


def _identify(report: Report, header: bytes) -> str:
    """Which message it is about, so that the sender knows it again."""
    lines = ["The message:"]
    title = find_field(header, "Subject")
    if title:
        lines.append(_wrap(f"Subject: {clean(_decode(title))}", indent=2))
    message_id = find_field(header, "Message-ID")
    if message_id:
        lines.append(_wrap(f"Message-ID: {clean(message_id)}", indent=2))
    lines.append(_wrap(f"taken on: {date(report.arrived)}", indent=2))
    return "\n".join(lines)


def _decode(value: str) -> str:
    """Undo encoded words (RFC 2047), if they are such."""
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return value


def _wrap(text: str, *, indent: int = 0) -> str:
    margin = indent * " "
    return textwrap.fill(
        text, WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
    )
