"""Makes harmless what came from outside, before a message of ours quotes it."""

from __future__ import annotations

QUOTED_OCTETS = 900
"""Leaves room for a field's name in a line of 998 octets (RFC 5322 §2.1.1)."""


def clean(text: str) -> str:
    """Return `text` on one line of at most `QUOTED_OCTETS`, with nothing that is not printed.

    White space of any kind becomes one space. Control characters, bidi marks and lone surrogates
    (octets that were no text) become question marks: ASCII stays ASCII.
    """
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join([char if char.isprintable() else "?" for char in line])
    octets = line.encode()
    if len(octets) <= QUOTED_OCTETS:
        return line
    return octets[: QUOTED_OCTETS - 3].decode("utf-8", "ignore") + "..."
