"""The header of a message as octets."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.message.header import (
    HEADER_LIMIT,
    HeaderReader,
    find_field,
    header_of,
    make_message_id,
    missing_fields,
)

WHEN = 1_764_042_600.75  # Tue, 25 Nov 2025 03:50:00 UTC


def counting_random() -> Callable[[int], bytes]:
    numbers: Iterator[int] = iter(range(256))
    return lambda count: bytes(next(numbers) for _ in range(count))


def added(start: bytes, *, line_end: bytes = b"\r\n") -> bytes:
    return missing_fields(
        start, WHEN, hostname="out.example.org", random=counting_random(), line_end=line_end
    )


@pytest.mark.parametrize(
    ("message", "header"),
    [
        (b"A: 1\r\nB: 2\r\n\r\ntext\r\n", b"A: 1\r\nB: 2\r\n"),
        (b"A: 1\nB: 2\n\ntext: no\n", b"A: 1\nB: 2\n"),
        (b"A: 1\r\n\tfolded\r\n \r\nB:\r\n\r\n", b"A: 1\r\n\tfolded\r\n \r\nB:\r\n"),
        (b"A : 1\r\n\r\n", b"A : 1\r\n"),
        (b"", b""),
        (b"\r\nA: 1\r\n", b""),
        (b"hello\r\nA: 1\r\n", b""),
        (b"two words: no\r\n", b""),
        (b" leading: no\r\n", b""),
        (b": no name\r\n", b""),
        (b"A: 1\r\nhello\r\nB: 2\r\n", b"A: 1\r\n"),
        (b"\xc3\xa4: no\r\n", b""),
        (b"A: \xff\r\n\r\n", b"A: \xff\r\n"),
    ],
)
def test_header_ends_at_the_first_line_that_is_no_field(message: bytes, header: bytes) -> None:
    assert header_of(message) == header


@given(
    st.lists(st.sampled_from([b"A: 1", b" fold", b"x", b"", b"Received: y", b"\t", b"a:"])),
    st.sampled_from([b"\r\n", b"\n"]),
)
def test_header_is_what_a_plain_reading_by_lines_finds(lines: list[bytes], end: bytes) -> None:
    expected = b""
    for line in lines:
        field = b":" in line or (line[:1] in (b" ", b"\t") and expected)
        if not field:
            break
        expected += line + end
    assert header_of(b"".join(line + end for line in lines)) == expected


@pytest.mark.parametrize("message", [b"A: 1\r\nB: 2\r\n\r\ntext", b"\r\ntext", b"A: 1\n\ntext"])
def test_pieces_are_read_until_the_empty_line(message: bytes) -> None:
    ends = message.index(b"text")
    for size in (1, 2, 3, len(message)):
        reader = HeaderReader()
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        fed = 0
        for piece in pieces:
            fed += len(piece)
            if reader.feed(piece):
                break
        assert reader.complete
        assert ends <= fed < ends + size
        assert header_of(reader.octets) == header_of(message)


def test_a_message_that_ends_early_is_all_header() -> None:
    reader = HeaderReader()
    assert not reader.feed(b"A: 1\r\n")
    assert not reader.feed(b"B: 2\r\n")
    assert header_of(reader.octets) == b"A: 1\r\nB: 2\r\n"


def test_no_more_than_the_limit_is_gathered() -> None:
    reader = HeaderReader()
    taken = 1
    while not reader.feed(b"X: " + 1021 * b"x"):
        taken += 1
    assert taken == HEADER_LIMIT // 1024


def test_a_header_past_the_limit_ends_there() -> None:
    assert header_of(b"A: 1\n" * HEADER_LIMIT) == b"A: 1\n" * (HEADER_LIMIT // 5)


def test_a_complete_reader_takes_no_more() -> None:
    reader = HeaderReader()
    reader.feed(b"A: 1\r\n\r\n")
    assert reader.feed(b"more")
    assert reader.octets == b"A: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"Subject: one\r\n", "one"),
        (b"X: y\nSUBJECT:one\nSubject: two\n", "one"),
        (b"Subject: one\r\n two\r\n\tthree\r\nX: y\r\n", "one two three"),
        (b"Subject:\r\n", ""),
        (b"Subject: caf\xc3\xa9 \xff\r\n", "caf\N{LATIN SMALL LETTER E WITH ACUTE} \ufffd"),
        (b"X-Subject: no\r\nX: y\r\n Subject: no\r\n", None),
    ],
)
def test_a_field_is_found_and_unfolded(header: bytes, value: str | None) -> None:
    assert find_field(header, "Subject") == value


def test_rfc6409_8_2_and_8_3_missing_fields_are_added() -> None:
    assert added(b"Subject: x\r\n\r\ntext\r\n") == (
        b"Date: Tue, 25 Nov 2025 03:50:00 +0000\r\n"
        b"Message-ID: <1764042600.000102030405060708@out.example.org>\r\n"
    )


def test_lines_end_as_asked() -> None:
    assert added(b"Message-ID: <x@y>\n\n", line_end=b"\n") == (
        b"Date: Tue, 25 Nov 2025 03:50:00 +0000\n"
    )


def test_fields_that_are_there_are_not_added() -> None:
    assert added(b"date: x\r\nMESSAGE-ID :\r\n <y@z>\r\n\r\n") == b""
    assert added(b"Date: x\r\n\r\n").startswith(b"Message-ID: <")


def test_fields_of_the_text_do_not_count() -> None:
    assert added(b"Subject: x\r\n\r\nDate: x\r\n").count(b"\r\n") == 2


@pytest.mark.parametrize("text", [b"hello\r\n", b"one two: three\r\n", b"\x00", b" x\r\n"])
def test_a_message_without_header_keeps_its_text(text: bytes) -> None:
    message = email.message_from_bytes(added(text) + text, policy=email.policy.SMTP)
    assert message["Date"] is not None
    assert message.get_payload(decode=True) == text


def test_a_message_that_starts_with_an_empty_line_gets_no_second_one() -> None:
    assert not added(b"\r\nhello\r\n").endswith(b"\r\n\r\n")
    assert not added(b"").endswith(b"\r\n\r\n")


def test_two_message_ids_differ() -> None:
    random = counting_random()
    first, second = (make_message_id(WHEN, hostname="h.example", random=random) for _ in range(2))
    assert first != second
