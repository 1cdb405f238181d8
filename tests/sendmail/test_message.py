"""A message of a program, made one that the server takes."""

from __future__ import annotations

import io
from email import message_from_bytes
from email.header import decode_header, make_header
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.sendmail.message import Message, read_message


def reader(octets: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(octets))


def wire(octets: bytes) -> bytes:
    return Message(read_message(reader(octets), dot_ends=False)).on_the_wire()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (b"a\n.\nb\n", b"a\n"),
        (b"a\r\n.\r\nb\r\n", b"a\n"),
        (b"a\n.", b"a\n"),
        (b".\n", b""),
        (b"a\n..\n.b\n", b"a\n..\n.b\n"),
        (b"a", b"a"),
    ],
)
def test_a_lone_dot_ends_a_message(given: bytes, read: bytes) -> None:
    assert read_message(reader(given), dot_ends=True) == read


def test_a_dot_ends_nothing_with_i() -> None:
    assert read_message(reader(b"a\n.\nb\n"), dot_ends=False) == b"a\n.\nb\n"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"A: 1\n\ntext\n", b"A: 1\r\n\r\ntext\r\n.\r\n"),
        (b"A: 1\r\n\r\ntext\r\n", b"A: 1\r\n\r\ntext\r\n.\r\n"),
        (b"A: 1\n\nmixed\r\n10%\r20%\rdone\n", b"A: 1\r\n\r\nmixed\r\n10%\r\n20%\r\ndone\r\n.\r\n"),
        (b"A: 1\n\nno end", b"A: 1\r\n\r\nno end\r\n.\r\n"),
        (b"A: 1\n\n.\n..x\n.y", b"A: 1\r\n\r\n..\r\n...x\r\n..y\r\n.\r\n"),
        (b"\n.x\n", b"\r\n..x\r\n.\r\n"),
        (b".x: 1\n", b"..x: 1\r\n.\r\n"),
        (b"A: 1\n fold\n\n", b"A: 1\r\n fold\r\n\r\n.\r\n"),
        (b"A: 1", b"A: 1\r\n.\r\n"),
        (b"", b".\r\n"),
    ],
)
def test_lines_end_with_crlf_and_dots_are_doubled(given: bytes, sent: bytes) -> None:
    assert wire(given) == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"hello\n", b"\r\nhello\r\n.\r\n"),
        (b"two words: x\n", b"\r\ntwo words: x\r\n.\r\n"),
        (b"A: 1\nhello\n", b"A: 1\r\n\r\nhello\r\n.\r\n"),
        (b" A: 1\n", b"\r\n A: 1\r\n.\r\n"),
    ],
)
def test_a_text_without_empty_line_before_it_gets_one(given: bytes, sent: bytes) -> None:
    assert wire(given) == sent


def test_the_from_line_of_a_mailbox_goes() -> None:
    assert wire(b"From bob Tue Nov 24\n>From eve x\nA: 1\n\nFrom here\n") == (
        b"A: 1\r\n\r\nFrom here\r\n.\r\n"
    )


@given(st.text("ab:.\n\r \t", max_size=40))
def test_nothing_ends_the_message_but_its_end(text: str) -> None:
    sent = wire(text.encode())
    assert sent.endswith(b".\r\n")
    assert (b"\r\n" + sent).count(b"\r\n.\r\n") == 1
    assert b"\n" not in sent.replace(b"\r\n", b"")
    assert b"\r" not in sent.replace(b"\r\n", b"")


def test_recipients_are_those_of_to_cc_and_bcc() -> None:
    message = Message(
        b"TO: a@x,\n\tb@y\nSubject: to: no@x\nCc : Carol <c@z>\nbcc: d@x\nReply-To: no@x\n"
        b"\nTo: no@x\n"
    )
    assert message.recipients() == ["a@x", "b@y", "c@z", "d@x"]


def test_rfc5322_3_6_6_resent_fields_stand_before_the_others() -> None:
    message = Message(b"To: a@x\nResent-To: b@y\nResent-Bcc: c@z\nBcc: d@x\n\n")
    assert message.recipients() == ["b@y", "c@z"]


def test_bcc_is_hidden() -> None:
    message = Message(b"To: a@x\nBcc: b@y,\n c@z\nResent-Bcc: d@x\nSubject: x\n\nBcc: text\n")
    message.hide_recipients()
    assert message.on_the_wire() == b"To: a@x\r\nSubject: x\r\n\r\nBcc: text\r\n.\r\n"


def test_from_is_added_where_it_is_missing() -> None:
    message = Message(b"Subject: x\n\ntext\n")
    message.add_from("ann@x", "")
    assert message.on_the_wire() == b"Subject: x\r\nFrom: ann@x\r\n\r\ntext\r\n.\r\n"


def test_from_is_added_to_a_text_alone() -> None:
    message = Message(b"text\n")
    message.add_from("ann@x", "Ann")
    assert message.on_the_wire() == b"From: Ann <ann@x>\r\n\r\ntext\r\n.\r\n"


def test_from_is_left_alone_where_it_is() -> None:
    message = Message(b"FROM : bob@y\n\n")
    message.add_from("ann@x", "Ann")
    assert message.on_the_wire() == b"FROM : bob@y\r\n\r\n.\r\n"


@pytest.mark.parametrize(
    "name",
    [
        "Ann",
        "Ann B. Smith",
        'Ann "the" Smith, \\ Dr.',
        "J\u00f6rg",
        "\u65e5\u672c\u8a9e" * 20,
        "\U0001f600" * 30,
        "Ann\x00Smith",
    ],
)
def test_a_name_is_read_back_as_it_is(name: str) -> None:
    message = Message(b"\n")
    message.add_from("ann@x.example", name)
    octets = message.on_the_wire()
    assert octets.isascii()
    phrase, address = parseaddr(str(message_from_bytes(octets)["From"]))
    assert address == "ann@x.example"
    assert str(make_header(decode_header(phrase))) == name


def test_a_name_ends_no_field() -> None:
    message = Message(b"\n")
    message.add_from("ann@x", "Ann\nBcc: evil@x")
    assert message.on_the_wire().count(b"\r\n") == 3
