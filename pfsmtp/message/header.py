"""The header of a message as octets: where it ends, what it holds, what a submission lacks.

Nothing here changes what it is given, and nothing fails: a message may begin with anything. A
line that is neither a field nor the continuation of one ends the header, as an empty line does.
Lines may end with CRLF or LF. At most `HEADER_LIMIT` octets are looked at. Trace fields are made in
`trace`; loops are found in `smtp.data`, while a message comes.

RFC 5322 §2.2, RFC 6409 §8 (what a submission server may add).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pfsmtp.message.trace import date

HEADER_LIMIT = 256 * 1024
"""Octets in which a header is looked for; it is taken to end there at the latest."""

# RFC 5322 §3.6.8, §4.5.8: field names are printable ASCII but for the colon, which may stand apart.
# The quantifiers are possessive: no line is looked at twice.
_FIELDS = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\n]*+\n(?:[ \t][^\n]*+\n)*+)*+")
_EMPTY_LINE = re.compile(rb"(?:^|\n)\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]")
_HAS_DATE = re.compile(rb"^Date[ \t]*:", re.IGNORECASE | re.MULTILINE).search
_HAS_MESSAGE_ID = re.compile(rb"^Message-ID[ \t]*:", re.IGNORECASE | re.MULTILINE).search


class HeaderReader:
    """Gathers the beginning of a message that comes in pieces, until its header is there."""

    __slots__ = ("complete", "octets")

    def __init__(self) -> None:
        self.octets = b""
        self.complete = False

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; returns whether the header is complete, and no more is wanted.

        Feeding a complete one does nothing. A message that ends before is all header.
        """
        if not self.complete:
            # An empty line may begin in what came before.
            searched = max(len(self.octets) - 3, 0)
            self.octets += piece
            found = _EMPTY_LINE.match(self.octets) or _EMPTY_LINE.search(self.octets, searched)
            self.complete = found is not None or len(self.octets) >= HEADER_LIMIT
        return self.complete


def header_of(octets: bytes) -> bytes:
    """Return the fields at the beginning of `octets`, with line ends, without the empty line."""
    found = _FIELDS.match(octets, 0, HEADER_LIMIT)
    return found[0] if found else b""


def find_field(header: bytes, name: str) -> str | None:
    """Return the unfolded value of the first field of this name, None if there is none.

    Octets that are not UTF-8 become U+FFFD.
    """
    pattern = rb"^%b[ \t]*:((?:[^\n]|\n[ \t])*)" % re.escape(name.encode("ascii"))
    found = re.search(pattern, header, re.IGNORECASE | re.MULTILINE)
    if found is None:
        return None
    return _FOLD.sub(b" ", found[1]).decode("utf-8", "replace").strip()


def missing_fields(
    start: bytes,
    when: float,
    *,
    hostname: str,
    random: Callable[[int], bytes],
    line_end: bytes = b"\r\n",
) -> bytes:
    """Return the Date and Message-ID that a submission lacks, to be put before it.

    `start` is the message as far as its header goes, `when` is in Unix seconds, `random` gives so
    many random octets. A message that starts with its text gets an empty line after the fields.
    """
    header = header_of(start)
    lines = []
    # RFC 6409 §8.2: add Date if it is missing
    if not _HAS_DATE(header):
        lines.append(b"Date: %b" % date(when).encode("ascii"))
    # RFC 6409 §8.3: add Message-ID if it is missing
    if not _HAS_MESSAGE_ID(header):
        message_id = make_message_id(when, hostname=hostname, random=random)
        lines.append(b"Message-ID: %b" % message_id.encode("ascii"))
    if not header and start and not _EMPTY_LINE.match(start):
        lines.append(b"")
    return b"".join(line + line_end for line in lines)


def make_message_id(when: float, *, hostname: str, random: Callable[[int], bytes]) -> str:
    """Make a Message-ID, `<…@hostname>`, that no other has (RFC 5322 §3.6.4)."""
    return f"<{int(when)}.{random(9).hex()}@{hostname}>"
