"""The compiled loops again, slow and obvious: what they are held against."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass
class Decoded:
    octets: bytes
    rest: bytes
    """What came behind the end of the data."""
    ended: bool
    bare: bool
    nul: bool
    size: int


def decode(sent: bytes, *, keep_cr: bool) -> Decoded:
    """What follows a 354 (RFC 5321 §4.1.1.4, §4.5.2).

    `octets` says what is kept only while `bare` is false: a message with bare CR or LF is refused.
    """
    # The data ends with the first line that is a dot alone; only CRLF ends a line.
    data, ended, rest = _end_of_data(sent)
    lines = data.split(b"\r\n")
    undone = [line.removeprefix(b".") for line in lines]
    end = b"\r\n" if keep_cr else b"\n"
    return Decoded(
        octets=end.join(undone),
        rest=rest,
        ended=ended,
        bare=any(b"\r" in line or b"\n" in line for line in lines),
        nul=b"\0" in data,
        size=len(b"\r\n".join(undone)),
    )


def _end_of_data(sent: bytes) -> tuple[bytes, bool, bytes]:
    if sent.startswith(b".\r\n"):
        return b"", True, sent[3:]
    data, found, rest = sent.partition(b"\r\n.\r\n")
    return (data + b"\r\n", True, rest) if found else (sent, False, b"")


def dot_stuff(message: bytes) -> bytes:
    """Double the dots that begin a line; lines end with CRLF."""
    return re.sub(rb"(\A|\n)\.", rb"\1..", message)


def commands(sent: bytes, *, limit: int) -> list[bytes | str]:
    """The lines of a command stream, or `too long`; `bare` ends it."""
    found: list[bytes | str] = []
    while b"\n" in sent:
        line, _, sent = sent.partition(b"\n")
        if not line.endswith(b"\r"):
            return [*found, "bare"]
        found.append("too long" if len(line) + 1 > limit else line[:-1])
    return found
