"""Trace fields (RFC 5321 §4.4): Received, Return-Path, and Delivered-To.

Pure functions from what envelope and connection say to the octets of a whole field, its line end
included. They never fail: what a client said is made harmless here, since a line end or a
parenthesis in its EHLO would be read as a field or a comment of ours. Which fields a message
gets, and in which order, is left to those who deliver it.

RFC 5321 §4.4 and §7.2, RFC 3848 (ESMTPS), RFC 6531 §3.7.3 (UTF8SMTP), RFC 5322 §3.3 (dates).
"""

from __future__ import annotations

import re
import time

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Origin

CRLF = b"\r\n"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
)  # fmt: skip

_LONGEST_HELLO = 255  # RFC 5321 §4.5.3.1.2: octets of a domain
_HELLO = re.compile(r"[A-Za-z0-9._-]+\Z|\[[A-Za-z0-9._:-]+\]\Z")
_FOREIGN = re.compile(r"[^A-Za-z0-9._:-]")
# What ends a line somewhere, and surrogates, which no encoding takes.
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Dates:
    """Dates, each made once for all that happens in the same second."""

    def __init__(self) -> None:
        self._last = (-1, "")

    def __call__(self, when: float) -> str:
        """As `date`."""
        second = int(when)
        known, text = self._last  # one reference, read and written whole: threads need no lock
        if known != second:
            text = date(second)
            self._last = (second, text)
        return text


def date(when: float) -> str:
    """`when`, in Unix seconds, as RFC 5322 §3.3 writes it: in UTC, and in any locale."""
    t = time.gmtime(when)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"
    )


def received(
    origin: Origin,
    id: str,
    *,
    recipient: Mailbox | None,
    when: float,
    line_end: bytes = CRLF,
    dates: Dates | None = None,
) -> bytes:
    """The Received field of this hop; `when` is in Unix seconds.

    `recipient` is the envelope's only one, or None. `dates` keeps the last date from call to call.
    """
    fold = line_end.decode("ascii") + "\t"
    came = f"from {_hello(origin)} ({_literal(origin.client)}){fold}" if origin.client else ""
    cipher = origin.encryption
    tls = f"{fold}({cipher.version}:{cipher.cipher})" if cipher else ""
    # RFC 5321 §7.2: with several recipients, naming one would show who was in Bcc.
    to = f"{fold}for {path(recipient)}" if recipient else ""
    stamp = dates(when) if dates else date(when)
    by = f"by {origin.hostname} with {origin.protocol} id {id}"
    field = f"Received: {came}{by}{tls}{to};{fold}{stamp}"
    return field.encode() + line_end


def return_path(reverse_path: Mailbox | None, line_end: bytes = CRLF) -> bytes:
    """The Return-Path field, which only the final delivery adds, in front of all others."""
    return b"Return-Path: " + path(reverse_path).encode() + line_end


def delivered_to(mailbox: Mailbox, line_end: bytes = CRLF) -> bytes:
    """The Delivered-To field: which address this copy is for."""
    return b"Delivered-To: " + _on_one_line(mailbox).encode() + line_end


def path(mailbox: Mailbox | None) -> str:
    """`<local-part@domain>`, or `<>` for the null reverse-path; always on one line."""
    return f"<{_on_one_line(mailbox)}>" if mailbox else "<>"


def _on_one_line(mailbox: Mailbox) -> str:
    text = str(mailbox)
    return text if text.isprintable() else _BREAKS.sub("?", text)


def _hello(origin: Origin) -> str:
    """What the client called itself; what neither a domain nor a literal holds becomes `?`."""
    hello = origin.hello[:_LONGEST_HELLO]
    if _HELLO.match(hello):
        return hello
    return _FOREIGN.sub("?", hello) or "unknown"


def _literal(client: str) -> str:
    """An IP address as RFC 5321 §4.1.3 writes it, without the zone that only we know."""
    address = client.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
