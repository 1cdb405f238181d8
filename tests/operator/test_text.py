"""What is shown to a person: harmless, and as wide as there is room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.operator import text

HOURS, DAYS = 3600, 86400


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain text, Grüße", "plain text, Grüße"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\U000e0001b", "a\\U000e0001b"),
        ("\x7f", "\\x7f"),
    ],
)
def test_nothing_that_a_terminal_acts_on_is_left(given: str, shown: str) -> None:
    assert text.visible(given) == shown


@given(st.binary())
def test_a_line_of_a_message_is_harmless_whatever_is_in_it(octets: bytes) -> None:
    assert text.visible_line(octets).isprintable()


def test_octets_that_are_no_text_can_be_told() -> None:
    assert text.visible_line(b"Gr\xfc\xc3\xbc\tx") == "Gr\\xfcü    x"


@pytest.mark.parametrize(
    ("given", "columns", "shown"),
    [
        ("four", 4, "four"),
        ("five!", 4, "fiv…"),
        ("漢字漢字", 8, "漢字漢字"),
        ("漢字漢字", 7, "漢字漢…"),
        ("漢字漢字", 6, "漢字…"),
        ("e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"),
    ],
)
def test_text_is_cut_to_fit(given: str, columns: int, shown: str) -> None:
    assert text.fit(given, columns) == shown


@given(st.text(alphabet="a漢e\u0301ü", max_size=30), st.integers(1, 20))
def test_what_is_padded_is_exactly_that_wide(given: str, columns: int) -> None:
    assert text.width(text.pad(given, columns)) == columns


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (570, "9m30s"),
        (38 * 60 + 59, "38m"),
        (2 * HOURS + 5 * 60, "2h5m"),
        (23 * HOURS + 59 * 60, "23h"),
        (4 * DAYS + 21 * HOURS, "4d21h"),
        (12 * DAYS + 5 * HOURS, "12d"),
    ],
)
def test_a_time_span_says_what_matters(seconds: float, shown: str) -> None:
    assert text.span(seconds) == shown


@given(st.floats(0, 9999 * DAYS))
def test_a_time_span_fits_its_column(seconds: float) -> None:
    assert len(text.span(seconds)) <= 5


@pytest.mark.parametrize(("when", "shown"), [(900.0, "now"), (1000.5, "now"), (1060.0, "1m")])
def test_what_is_past_is_now(when: float, shown: str) -> None:
    assert text.until(when, 1000.0) == shown


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0K"),
        (35_000, "34K"),
        (52_428_800, "50M"),
        (5 << 30, "5.0G"),
    ],
)
def test_a_size_is_in_the_unit_that_people_use(octets: int, shown: str) -> None:
    assert text.size(octets) == shown


@given(st.integers(0, 9999 << 30))
def test_a_size_fits_its_column(octets: int) -> None:
    assert len(text.size(octets)) <= 5


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 messages"), (1, "1 message"), (2, "2 messages")]
)
def test_a_count_agrees_with_its_noun(count: int, shown: str) -> None:
    assert text.plural(count) == shown
