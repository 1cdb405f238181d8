"""Text from outside, made harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.message.clean import QUOTED_OCTETS, clean


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("550 no such user", "550 no such user"),
        ("a\r\nSubject: b\tc\u2028d\x85e", "a Subject: b c d e"),
        ("\x1b[31mred\x00\x7f", "?[31mred??"),
        ("\u202eevil\u2066 \ufeff", "?evil? ?"),
        (b"\xff\xfe".decode("utf-8", "surrogateescape"), "??"),
        ("caf\u00e9 \u65e5\u672c", "caf\u00e9 \u65e5\u672c"),
        ("", ""),
    ],
)
def test_nothing_is_left_that_is_not_printed(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\U0001f600"])
def test_what_is_too_long_for_a_line_is_cut_between_characters(letter: str) -> None:
    cut = clean(letter * 2000)
    assert QUOTED_OCTETS - 4 < len(cut.encode()) <= QUOTED_OCTETS
    assert set(cut) == {letter, "."}


@given(st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)
