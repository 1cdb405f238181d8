"""The corpus is what it says it is."""

from __future__ import annotations

import re
from itertools import chain

import pytest

from tests.corpus import LONGEST_LINE, debian, on_the_wire, refused, taken
from tests.needs import lacking

BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


def longest_line(message: bytes) -> int:
    return max(map(len, message.split(b"\r\n")))


def test_every_message_has_its_own_name() -> None:
    names = [name for name, _ in chain(taken(), refused())]
    assert len(names) == len(set(names)) > 150


def test_it_is_the_same_every_time() -> None:
    assert list(taken()) == list(taken())
    assert list(refused()) == list(refused())


def test_what_is_taken_consists_of_lines() -> None:
    for name, message in taken():
        assert BARE.search(message) is None, name
        assert message.endswith(b"\r\n") or not message, name
        assert longest_line(message) <= LONGEST_LINE, name


def test_what_is_refused_does_not() -> None:
    for name, message in refused():
        assert BARE.search(message) or longest_line(message) > LONGEST_LINE, name
        assert message.endswith(b"\r\n"), name


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n.b\r\n..\r\n", b"a\r\n..\r\n..b\r\n...\r\n.\r\n"),
        (b"a\n.\r\n", b"a\n.\r\n.\r\n"),
    ],
)
def test_rfc5321_4_5_2_dots_are_doubled_on_the_wire(message: bytes, wire: bytes) -> None:
    assert on_the_wire(message) == wire


def test_only_the_end_of_a_message_ends_it() -> None:
    for name, message in chain(taken(), refused()):
        wire = b"\r\n" + on_the_wire(message)
        assert wire.count(b"\r\n.\r\n") == 1, name
        assert wire.endswith(b"\r\n.\r\n"), name


def test_messages_of_the_world_are_among_them() -> None:
    if not list(debian()):
        lacking(
            "needs the messages of libpython3.11-testsuite (apt install libpython3.11-testsuite)"
        )
    assert len(list(debian())) > 40
