"""Numbered messages: whole ones are known, and nothing else is taken for one."""

from __future__ import annotations

from random import Random

import pytest

from pfsmtp.crashtest.dialogue import stuffed
from pfsmtp.crashtest.message import Paper, compose, recognise

RUN = "0123abcd"
PAPER = Paper(Random(1))
FIELDS = b"Return-Path: <a@b>\r\nDelivered-To: c@d\r\nReceived: from e\r\n\tby f; now\r\n"


def message(number: int = 7, size: int = 5000) -> bytes:
    return compose(RUN, number, "a@b", PAPER.body(number, size, Random(number)))


@pytest.mark.parametrize("size", [1, 100, 40_000, 1 << 21])
def test_a_body_has_about_the_size_that_was_asked_for(size: int) -> None:
    assert 0 <= len(PAPER.body(1, size, Random(1))) - size < 3000


def test_bodies_hold_what_servers_stumble_over() -> None:
    body = PAPER.body(1, 1 << 20, Random(1))
    lines = body.split(b"\r\n")
    assert lines.pop() == b""
    assert {b"", b".", b".."} <= set(lines)
    assert max(map(len, lines)) == 998
    assert not body.isascii()
    assert b"\n" not in b"".join(lines)
    assert b"\r" not in b"".join(lines)


def test_no_two_messages_have_the_same_body() -> None:
    bodies = {PAPER.body(number, 200, Random(1)) for number in range(100)}
    assert len(bodies) == 100


@pytest.mark.parametrize("fields", [b"", FIELDS])
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_whole_message_is_known_behind_fields_and_with_either_line_end(
    fields: bytes, line_end: bytes
) -> None:
    seen = recognise(RUN, (fields + message()).replace(b"\r\n", line_end))
    assert (seen.number, seen.fault) == (7, "")
    assert seen.fields == fields.replace(b"\r\n", b"\n")


def test_a_message_that_was_cut_anywhere_is_not_whole() -> None:
    whole = FIELDS + message(size=300)
    faults = [recognise(RUN, whole[:at]).fault for at in range(len(whole))]
    assert all(faults)


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_message_with_any_octet_changed_is_not_whole(flip: int) -> None:
    whole = (FIELDS + message(size=300)).replace(b"\r\n", b"\n")
    for at in range(whole.index(b"X-Pfsmtp"), len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
        assert recognise(RUN, changed).fault, at


def test_what_is_behind_a_message_is_seen() -> None:
    assert recognise(RUN, message() + message(8)).fault
    assert recognise(RUN, message() + b"\r\n").fault


@pytest.mark.parametrize(
    ("octets", "fault"), [(b"", "empty"), (FIELDS, "no whole header of a message in it")]
)
def test_what_holds_no_message_says_so(octets: bytes, fault: str) -> None:
    seen = recognise(RUN, octets)
    assert (seen.number, seen.fault) == (None, fault)


def test_a_message_of_another_run_is_none_of_ours() -> None:
    seen = recognise("ffffffff", message())
    assert seen.number is None
    assert "another run" in seen.fault


def test_stuffing_doubles_the_first_dot_of_every_line_and_nothing_else() -> None:
    assert stuffed(b".\r\n..a\r\nb.\r\n\r\n") == b"..\r\n...a\r\nb.\r\n\r\n.\r\n"
