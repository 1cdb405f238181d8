"""Text for a person at a terminal: harmless, cut to fit, and times and sizes as people say them.

Pure functions. What came from outside goes through `visible` before it is shown: after that
nothing in it moves the cursor, changes a colour, or runs from right to left.
"""

from __future__ import annotations

import time
import unicodedata

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SIZES = ("B", "K", "M", "G")


def visible(text: str) -> str:
    """Return `text` on one line, with what Unicode does not call printable escaped: `\\x1b`."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _escape(char) for char in text])


def visible_line(octets: bytes) -> str:
    """As `visible`, of a line of a message; octets that are not UTF-8 are escaped as well."""
    return visible(octets.decode("utf-8", "backslashreplace").replace("\t", "    "))


def width(text: str) -> int:
    """How many columns of a terminal a visible text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def fit(text: str, columns: int) -> str:
    """Return a visible text, cut to so many columns; an ellipsis says that something is missing."""
    if width(text) <= columns:
        return text
    taken, end = 1, 0  # the ellipsis
    for char in text:
        taken += _columns(char)
        if taken > columns:
            break
        end += 1
    return f"{text[:end]}…"


def pad(text: str, columns: int) -> str:
    """Fit a visible text into a column of exactly this width."""
    text = fit(text, columns)
    return text + " " * (columns - width(text))


def span(seconds: float) -> str:
    """A time span in five columns or fewer: `45s`, `9m30s`, `38m`, `2h5m`, `4d21h`, `12d`."""
    whole = max(int(seconds), 0)
    for unit, letter, part, smaller in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "m"),
        (_MINUTE, "m", 1, "s"),
    ):
        count, rest = divmod(whole, unit)
        if count:
            fraction = rest // part if count < 10 else 0
            return f"{count}{letter}{fraction}{smaller}" if fraction else f"{count}{letter}"
    return f"{whole}s"


def until(when: float, now: float) -> str:
    """How long it takes until then; `now` when that is past."""
    return span(when - now) if when - now >= 1 else "now"


def moment(when: float) -> str:
    """A date and time, in the time zone of whoever looks."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(when))


def past(when: float, now: float) -> str:
    """A moment, and how long ago it was."""
    return f"{moment(when)} ({span(now - when)} ago)"


def future(when: float, now: float) -> str:
    """A moment, and how long it takes until then."""
    return f"{moment(when)} ({f'in {span(when - now)}' if when > now else 'now'})"


def size(octets: int) -> str:
    """A size in five columns or fewer: `512B`, `1.2K`, `35K`, `4.0M`."""
    value, unit = float(octets), 0
    while value >= 1000 and unit < len(_SIZES) - 1:
        value /= 1024
        unit += 1
    digits = 1 if unit and value < 9.95 else 0
    return f"{value:.{digits}f}{_SIZES[unit]}"


def plural(count: int, noun: str = "message") -> str:
    """`1 message`, `3 messages`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _escape(char: str) -> str:
    number = ord(char)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _columns(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) == "Me":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
