"""Numbered messages that say themselves whether they are whole.

    X-Pfsmtp-Crashtest: <run> <number> <size> <SHA-256>

stands first in a message, and is about itself and all the octets behind it, with line ends of one
LF: a Maildir has those, the wire CRLF. What servers put before it are header fields.

The bodies hold what servers stumble over: lines that begin with dots, or are nothing but one, or
empty, or as long as may be, octets above 127, spaces at the end. All lines end in CRLF.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from random import Random

_NAME = b"X-Pfsmtp-Crashtest: "
_FIELD = re.compile(
    rb"(?:\A|(?<=\n))X-Pfsmtp-Crashtest: (([0-9a-f]{8}) ([0-9]+) ([0-9]+)) ([0-9a-f]{64})\n"
)
_LINES_OF_A_BLOCK = 2000
_LEAF = 32 * 1024  # octets of a body that are numbered


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be told of octets that should be one message, with whatever is before it."""

    number: int | None  # None: it cannot be told which
    fields: bytes  # before it, with LF
    fault: str  # "" when it is whole


class Paper:
    """Makes the bodies of messages, from one block of lines; shared by threads."""

    def __init__(self, random: Random) -> None:
        lines = [_line(random) for _ in range(_LINES_OF_A_BLOCK)]
        self._block = b"".join(lines)
        self._ends = list(accumulate(map(len, lines)))

    def body(self, number: int, size: int, random: Random) -> bytes:
        """A body of about `size` octets that no other message has."""
        leaves: list[bytes] = []
        left = size
        while left > 0:
            leaf = b"%d.%d\r\n" % (number, len(leaves)) + self._cut(min(left, _LEAF), random)
            leaves.append(leaf)
            left -= len(leaf)
        return b"".join(leaves)

    def _cut(self, size: int, random: Random) -> bytes:
        """Whole lines from somewhere in the block."""
        first = random.randrange(len(self._ends))
        start = self._ends[first]
        last = bisect_left(self._ends, start + size)
        if last >= len(self._ends):
            start, last = 0, bisect_left(self._ends, size)
        return self._block[start : self._ends[min(last, len(self._ends) - 1)]]


def compose(run: str, number: int, sender: str, body: bytes) -> bytes:
    """Return the message with CRLF, as it goes on the wire but for dot-stuffing."""
    rest = (
        f"From: pfsmtp crashtest <{sender}>\r\n"
        f"Subject: message {number} of run {run}\r\n"
        f"Message-ID: <{run}.{number}@crashtest.invalid>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\n"
    ).encode() + body
    told = rest.replace(b"\r\n", b"\n")
    mark = f"{run} {number} {len(told)}".encode()
    return b"%b%b %b\r\n%b" % (_NAME, mark, _digest(mark, told), rest)


def recognise(run: str, octets: bytes) -> Seen:
    """See which message of the run this is, and whether it is whole. Line ends may be CRLF."""
    octets = octets.replace(b"\r\n", b"\n")
    found = _FIELD.search(octets)
    if found is None:
        return Seen(None, b"", "empty" if not octets else "no whole header of a message in it")
    fields = octets[: found.start()]
    mark, of_run, number, size, digest = found.groups()
    if of_run != run.encode():
        return Seen(None, fields, f"of another run, {of_run.decode()}")
    told = octets[found.end() :]
    fault = ""
    if len(told) != int(size):
        fault = f"{len(told)} octets in place of {int(size)}"
    elif _digest(mark, told) != digest:
        fault = "not the octets that were sent"
    return Seen(int(number), fields, fault)


def _digest(mark: bytes, told: bytes) -> bytes:
    digest = sha256(mark)
    digest.update(told)
    return digest.hexdigest().encode()


def _line(random: Random) -> bytes:
    """One line of a body, with CRLF."""
    kind = random.random()
    text = bytes(random.choices(b"abcdefghijklmnopqrstuvwxyz    ,.", k=random.randint(1, 76)))
    if kind < 0.04:
        line = b"." * random.randint(1, 3)
    elif kind < 0.10:
        line = b"." + text
    elif kind < 0.15:
        line = b""
    elif kind < 0.17:
        line = (text * 998)[:998]
    elif kind < 0.22:
        line = "Grüße, привет, 今日は ".encode()
    elif kind < 0.24:
        line = b"From " + text
    else:
        line = text
    return line + b"\r\n"
