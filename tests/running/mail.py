"""What was sent, and what is stored of it: the same octets but for line ends and trace fields."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tests.corpus import Sample

_TRACE = re.compile(
    rb"Return-Path: [^\n]*\n"
    rb"Delivered-To: [^\n]*\n"
    rb"Received: (?:[^\n]*\n\t)+?[A-Z][a-z]{2}, [^\n]*\n"
)


def as_sent(stored: bytes) -> bytes:
    """A stored message without our trace fields, its lines ended with CRLF."""
    trace = _TRACE.match(stored)
    assert trace is not None, f"no trace fields: {stored[:1000]!r}"
    return stored[trace.end() :].replace(b"\n", b"\r\n")


def assert_same(sent: Iterable[Sample], stored: Iterable[bytes]) -> None:
    """Hold what is stored against what was sent, in any order; say which messages differ.

    Only their names are shown: pytest would take minutes for what differs.
    """
    left = Counter(map(as_sent, stored))
    missing = []
    for name, message in sent:
        if left[message]:
            left[message] -= 1
        else:
            missing.append(name)
    assert missing == []
    assert not +left, "more is stored than was sent"
