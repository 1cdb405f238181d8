"""What another server says to us (RFC 5321 §4.2): its replies and its EHLO keywords, as values.

Replies are read strictly (ext/reply.pyx), since a client that guesses where one ends takes the
answer to one command for the answer to another: lines end with CRLF, all lines of a reply have one
code, and both a line and a reply have a limit. Whatever breaks this is a `BadReply`; the connection
is of no use then.

The text of a reply is kept as octets until somebody asks for it; what is handed out is clean: no
control or bidi characters, no line ends, and of bounded length, fit for a log line or a bounce.
What a code means for a command is left to `client`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from pfsmtp.smtp.client._reply import BadReply, ReplyReader
from pfsmtp.smtp.status import Status

__all__ = [
    "MAX_LINE",
    "MAX_LINES",
    "BadReply",
    "Capabilities",
    "RemoteReply",
    "ReplyReader",
    "clean",
    "read_capabilities",
    "reply_reader",
]

# RFC 5321 §4.5.3.1.5: a reply line has 512 octets at most; some servers write more.
MAX_LINE = 4096
MAX_LINES = 256
# Of what is kept for logs and bounces.
_SHOWN_LINE = 500
_SHOWN_LINES = 20

# RFC 3463 §2; RFC 2034 §4: at the beginning of the text.
_STATUS = re.compile(rb"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |\Z)")


class RemoteReply(Struct):
    """One reply: its code, and its lines without code and line end, as they came."""

    code: int
    kind: int
    """The code's first digit: 2 done, 3 go on, 4 not now, 5 no."""
    lines: list[bytes]

    @property
    def status(self) -> Status | None:
        """The enhanced status (RFC 2034 §4), where there is one and it fits the code."""
        match = _STATUS.match(self.lines[0])
        if match is None or int(match[1]) != self.kind:
            return None
        return Status(self.kind, int(match[2]), int(match[3]))

    @property
    def text(self) -> str:
        """The reply as it was, each line with its code, clean; lines are separated by LF."""
        *first, last = self.lines if len(self.lines) <= _SHOWN_LINES else self.lines[:_SHOWN_LINES]
        lines = [f"{self.code}-{clean(line)}" for line in first]
        return "\n".join([*lines, f"{self.code} {clean(last)}"])


def clean(octets: bytes) -> str:
    """A line of what a remote said, as text that can be shown and quoted anywhere."""
    text = octets.decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join([char if char.isprintable() else " " for char in text])
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_LINE else f"{text[: _SHOWN_LINE - 1]}…"


def reply_reader() -> ReplyReader[RemoteReply]:
    """What takes replies off the octets that come in."""
    return ReplyReader(RemoteReply, longest=MAX_LINE, most=MAX_LINES)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server's answer to EHLO offers; after HELO, nothing."""

    pipelining: bool = False  # RFC 2920
    eight_bit: bool = False  # RFC 6152, 8BITMIME
    smtputf8: bool = False  # RFC 6531
    dsn: bool = False  # RFC 3461
    starttls: bool = False  # RFC 3207
    takes_size: bool = False  # RFC 1870: MAIL may have SIZE=
    size: int | None = None  # the most octets of a message, where it is said
    authentication: frozenset[str] = field(default_factory=frozenset)  # RFC 4954, upper case
    recipients: int | None = None  # of a transaction (RFC 9422 §4.2)
    messages: int | None = None  # of a connection (RFC 9422 §4.1)


def read_capabilities(lines: Sequence[bytes]) -> Capabilities:
    """Read the lines of a reply to EHLO (RFC 5321 §4.1.1.1); what is malformed is not offered."""
    offered: dict[str, list[str]] = {}
    for line in lines[1:]:
        text = line.decode("ascii", "replace").upper()
        # Some servers still write AUTH=LOGIN, as drafts of RFC 4954 had it.
        keyword, *arguments = text.replace("AUTH=", "AUTH ").split() or [""]
        offered.setdefault(keyword, []).extend(arguments)
    limits = dict(argument.partition("=")[::2] for argument in offered.get("LIMITS", ()))
    return Capabilities(
        pipelining="PIPELINING" in offered,
        eight_bit="8BITMIME" in offered,
        smtputf8="SMTPUTF8" in offered,
        dsn="DSN" in offered,
        starttls="STARTTLS" in offered,
        takes_size="SIZE" in offered,
        # RFC 1870 §3: 0 means that there is no fixed limit.
        size=_positive(next(iter(offered.get("SIZE", ())), "")),
        authentication=frozenset(offered.get("AUTH", ())),
        recipients=_positive(limits.get("RCPTMAX", "")),
        messages=_positive(limits.get("MAILMAX", "")),
    )


def _positive(digits: str) -> int | None:
    """A number over 0; None for 0 and for what is no number."""
    return int(digits) or None if re.fullmatch("[0-9]{1,19}", digits) else None
