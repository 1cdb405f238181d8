"""Delivery status notifications: what became of a message, as a message (RFC 3464).

`compose` makes a `multipart/report` of three parts: a text for a person (from `explanation`),
fields for programs, and the message or its header. When one is due, and that none is ever sent to
the null path, is for the deliverer to see to; `is_wanted` and `quotes_whole` answer what the
sender's NOTIFY and RET say about it.

Every text that came from outside is cleaned before it is quoted, so that nothing a remote host says
can end a field or a part. Nothing fails, whatever the texts hold.

RFC 3464 (fields), RFC 6522 (multipart/report), RFC 3461 §6 (contents), RFC 6533 (SMTPUTF8),
RFC 3834 §5 (Auto-Submitted). A report is 8-bit only when what it quotes is; it needs SMTPUTF8 only
when the address it goes to does.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator

from pfsmtp.message.clean import clean
from pfsmtp.message.explanation import explain, subject
from pfsmtp.message.header import find_field, header_of, make_message_id
from pfsmtp.message.report import Action, RecipientReport, Report
from pfsmtp.message.trace import date
from pfsmtp.smtp.envelope import Envelope, Notify, Recipient

WHOLE_LIMIT = 64 * 1024
"""Octets of a message that is quoted whole though nobody asked for it."""
WHOLE_LIMIT_ASKED = 1024 * 1024
"""Octets of a message that is quoted whole because RET=FULL asks for it."""

FIELD_WIDTH = 76

_KEYWORDS: dict[Action, Notify] = {
    "failed": "FAILURE",
    "delayed": "DELAY",
    "delivered": "SUCCESS",
    "relayed": "SUCCESS",
    "expanded": "SUCCESS",
}
# RFC 3461 §4.1: without NOTIFY, failures are reported and delays may be.
_UNASKED: frozenset[Notify] = frozenset(("FAILURE", "DELAY"))

_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>\Z")


def is_wanted(recipient: Recipient, action: Action) -> bool:
    """Whether the sender is to hear that this happened (RFC 3461 §4.1)."""
    return _KEYWORDS[action] in (recipient.notify or _UNASKED)


def quotes_whole(report: Report, size: int) -> bool:
    """Whether the report quotes the whole message, of `size` octets, rather than its header."""
    # RFC 3461 §4.3: RET counts only where a delivery has failed; else the header is returned.
    failed = any(recipient.action == "failed" for recipient in report.recipients)
    if not failed or report.envelope.returning == "HDRS":
        return False
    return size <= (WHOLE_LIMIT_ASKED if report.envelope.returning == "FULL" else WHOLE_LIMIT)


def compose(
    report: Report,
    original: bytes,
    *,
    whole: bool,
    when: float,
    random: Callable[[int], bytes],
) -> tuple[Envelope, bytes]:
    """Return the notification: its envelope, from the null path, and the message with CRLF.

    `original` is the message with CRLF, all of it when `whole`, else at least its header. `when` is
    now, in Unix seconds; `random` gives so many random octets.
    """
    header = header_of(original)
    text = explain(report, header, whole=whole).encode()
    parts = (
        _part("text/plain; charset=utf-8", "What happened", text),
        _status_part(report),
        _original_part(original if whole else header, header, whole=whole),
    )
    boundary = f"=_{random(15).hex()}"
    message_id = make_message_id(when, hostname=report.hostname, random=random)
    top = _header(report, header, boundary=boundary, message_id=message_id, when=when)
    if not all(part.isascii() for part in parts):
        top += "Content-Transfer-Encoding: 8bit\r\n"
    delimiter = b"\r\n--%b" % boundary.encode("ascii")
    body = b"".join(b"%b\r\n%b" % (delimiter, part) for part in parts)
    octets = b"%b%b%b--\r\n" % (top.encode(), body, delimiter)
    envelope = Envelope(
        # RFC 3464 §2: a notification is sent from the null path, so that it can cause none itself.
        reverse_path=None,
        recipients=(Recipient(report.to),),
        body="7BIT" if octets.isascii() else "8BITMIME",
        smtputf8=report.to.needs_smtputf8,
    )
    return envelope, octets


def _header(report: Report, original: bytes, *, boundary: str, message_id: str, when: float) -> str:
    fields = [
        # RFC 3461 §6.1: From holds the address of someone who looks after this host.
        f"From: Mail Delivery System <postmaster@{report.hostname}>",
        f"To: <{report.to}>",
        f"Subject: {subject(report)}",
        f"Date: {date(when)}",
        f"Message-ID: {message_id}",
    ]
    answered = find_field(original, "Message-ID")
    if answered and _MESSAGE_ID.match(answered):
        fields += [f"In-Reply-To: {answered}", f"References: {answered}"]
    fields += [
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
    ]
    return "".join(f"{field}\r\n" for field in fields)


def _part(kind: str, description: str, content: bytes) -> bytes:
    """One part of the report, its own header first, up to the delimiter's CRLF."""
    encoding = "" if content.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
    header = f"Content-Type: {kind}\r\nContent-Description: {description}\r\n{encoding}\r\n"
    return header.encode("ascii") + content


def _status_part(report: Report) -> bytes:
    groups = (_message_fields(report), *map(_recipient_fields, report.recipients))
    text = "\r\n".join("".join(_fold(*field) for field in group) for group in groups)
    # RFC 6533 §3: addresses that are not ASCII take the type of their own.
    kind = "message/delivery-status" if text.isascii() else "message/global-delivery-status"
    return _part(kind, "Delivery report", text.encode())


def _message_fields(report: Report) -> Iterator[tuple[str, str]]:
    """The fields about the message, in the order of RFC 3464 §2.2."""
    if report.envelope.envelope_id is not None:
        yield "Original-Envelope-Id", clean(report.envelope.envelope_id)
    yield "Reporting-MTA", f"dns; {report.hostname}"
    yield "Arrival-Date", date(report.arrived)


def _recipient_fields(report: RecipientReport) -> Iterator[tuple[str, str]]:
    """The fields about one recipient, in the order of RFC 3464 §2.3."""
    recipient = report.recipient
    if recipient.original is not None:
        kind, _, address = recipient.original.partition(";")
        yield "Original-Recipient", f"{clean(kind)};{clean(address)}"
    # RFC 6533 §3: the address type of an address that is not ASCII
    kind = "utf-8" if recipient.mailbox.needs_smtputf8 else "rfc822"
    yield "Final-Recipient", f"{kind};{clean(str(recipient.mailbox))}"
    yield "Action", report.action
    yield "Status", str(report.status)
    if report.remote is not None:
        yield "Remote-MTA", f"dns; {_ascii(report.remote)}"
    if report.reply is not None:
        yield "Diagnostic-Code", f"smtp; {_ascii(report.reply)}"
    elif report.action in ("failed", "delayed"):
        # RFC 3464 §2.3.6: a type of one's own for what no SMTP server said
        yield "Diagnostic-Code", f"x-pfsmtp; {_ascii(report.reason)}"
    if report.attempted is not None:
        yield "Last-Attempt-Date", date(report.attempted)
    # RFC 3464 §2.3.9: only for what is still tried
    if report.retry_until is not None and report.action == "delayed":
        yield "Will-Retry-Until", date(report.retry_until)


def _original_part(quoted: bytes, header: bytes, *, whole: bool) -> bytes:
    # RFC 6533 §4: a header that is not ASCII takes the types of its own.
    if whole:
        kind = "message/rfc822" if header.isascii() else "message/global"
        return _part(kind, "Your message", quoted)
    kind = "text/rfc822-headers" if header.isascii() else "message/global-headers"
    return _part(kind, "The header of your message", quoted)


def _ascii(text: str) -> str:
    """Cleaned, on one line, what is not ASCII as question marks."""
    return clean(text).encode("ascii", "replace").decode("ascii")


def _fold(name: str, value: str) -> str:
    """One field, in lines of `FIELD_WIDTH` where its words allow it, with CRLF."""
    lines = textwrap.wrap(
        f"{name}: {value}",
        FIELD_WIDTH,
        subsequent_indent=" ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "".join(f"{line}\r\n" for line in lines)
