"""Replies read strictly and within bounds, and what EHLO offers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.smtp.client.remote import (
    MAX_LINE,
    MAX_LINES,
    BadReply,
    Capabilities,
    RemoteReply,
    ReplyReader,
    read_capabilities,
    reply_reader,
)
from pfsmtp.smtp.status import Status
from tests.smtp import reference


def read(octets: bytes, size: int = 1_000_000) -> list[RemoteReply]:
    """All replies in these octets, fed `size` at a time."""
    reader, replies = reply_reader(), []
    for start in range(0, len(octets), size):
        reader.feed(octets[start : start + size])
        while reply := reader.next():
            replies.append(reply)
    return replies


def reply(octets: bytes) -> RemoteReply:
    (only,) = read(octets)
    return only


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_replies_are_the_same_however_they_come(size: int) -> None:
    octets = b"220 a\r\n250-b\r\n250-\r\n250\r\n354 c d\r\n571-x\r\n571 y\r\n"
    assert read(octets, size) == [
        RemoteReply(220, 2, [b"a"]),
        RemoteReply(250, 2, [b"b", b"", b""]),
        RemoteReply(354, 3, [b"c d"]),
        RemoteReply(571, 5, [b"x", b"y"]),
    ]


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b" 250 ok\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250\tok\r\n",
        b"250ok\r\n",
        b"250 ok\n",
        b"250 o\rk\r\n",
        b"250 ok\r\r\n",
        b"250 ok\n\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\n250+b\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00",
        "\uff12\uff15\uff10 ok\r\n".encode(),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_reply_is_refused(octets: bytes, size: int) -> None:
    with pytest.raises(BadReply):
        read(octets, size)


telling_pieces = st.sampled_from(
    [
        b"2",
        b"5",
        b"0",
        b"250",
        b"354",
        b" ",
        b"-",
        b"a",
        b"\r",
        b"\n",
        b"\r\n",
        b"250-a\r\n",
        b"\xff",
    ]
)


def read_apart(pieces: list[bytes]) -> list[tuple[int, list[bytes]] | str]:
    reader: ReplyReader[tuple[int, list[bytes]]] = ReplyReader(_both, longest=12, most=3)
    found: list[tuple[int, list[bytes]] | str] = []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (reply := reader.next()) is not None:
                found.append(reply)
        except BadReply:
            return [*found, "bad"]
    return found if reader.is_empty else [*found, "open"]


def _both(code: int, digit: int, lines: list[bytes]) -> tuple[int, list[bytes]]:
    assert digit == code // 100
    return code, lines


@given(st.lists(telling_pieces, max_size=12).map(b"".join))
def test_replies_are_read_as_the_reference_says_at_every_split(sent: bytes) -> None:
    expected = reference.replies(sent, longest=12, most=3)
    assert read_apart([sent[at : at + 1] for at in range(len(sent))]) == expected
    for at in range(len(sent) + 1):
        assert read_apart([sent[:at], sent[at:]]) == expected


def test_what_is_no_reply_is_shown_as_text() -> None:
    with pytest.raises(BadReply, match=r'what is no reply \("HTTP/1.1 4\?\?0"\)'):
        read(b"HTTP/1.1 4\x1b\xff0\r\n")
    with pytest.raises(BadReply) as raised:
        read(b"x" * 1000)
    assert len(str(raised.value)) < 120


def test_garbage_is_refused_before_its_line_ends() -> None:
    with pytest.raises(BadReply):
        read(b"x")


@pytest.mark.parametrize("size", [1, 100, 200_000])
def test_long_line_is_refused(size: int) -> None:
    read(b"250 " + (MAX_LINE - 6) * b"a" + b"\r\n", size)
    with pytest.raises(BadReply, match="4096 octets"):
        read(b"250 " + (MAX_LINE - 5) * b"a" + b"\r\n", size)
    with pytest.raises(BadReply, match="4096 octets"):
        read(b"250 " + 100_000 * b"a", size)


def test_endless_reply_is_refused() -> None:
    read((MAX_LINES - 1) * b"250-a\r\n" + b"250 a\r\n")
    with pytest.raises(BadReply, match="256 lines"):
        read(1000 * b"250-a\r\n", 100)


def test_left_over_octets_are_noticed() -> None:
    reader = reply_reader()
    assert reader.is_empty
    reader.feed(b"250 ok\r\n250-mo")
    assert reader.next()
    assert not reader.is_empty
    assert reader.next() is None
    reader.feed(b"re\r\n")
    assert reader.next() is None
    assert not reader.is_empty


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"550 5.1.1 no\r\n", Status(5, 1, 1)),
        (b"250 2.0.0\r\n", Status(2, 0, 0)),
        (b"550 4.1.1 no\r\n", None),
        (b"354 3.0.0 go\r\n", None),
        (b"550 5.1 no\r\n", None),
        (b"550 5.1.1: no\r\n", None),
        (b"550 5.1000.1 no\r\n", None),
        (b"550\r\n", None),
    ],
)
def test_enhanced_status(octets: bytes, status: Status | None) -> None:
    assert reply(octets).status == status


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"550 5.1.1 no  such\tuser\r\n", "550 5.1.1 no such user"),
        (b"550-5.1.1 no\r\n550 5.1.1 user\r\n", "550-5.1.1 no\n550 5.1.1 user"),
        (b"550 a\x1b[31mb\x00c\x7f\r\n", "550 a [31mb c"),
        ("550 a\u202eb\u2028c\u0085d\r\n".encode(), "550 a b c d"),
        (b"550 \xff\xfe Stra\xc3\x9fe\r\n", "550 \ufffd\ufffd Straße"),
        (b"550\r\n", "550 "),
    ],
)
def test_text_is_clean(octets: bytes, text: str) -> None:
    assert reply(octets).text == text


def test_text_is_bounded() -> None:
    line = b"550-" + 4000 * b"a" + b"\r\n"
    text = reply(200 * line + b"550 end\r\n").text
    assert len(text) < 11_000
    assert text.startswith("550-aaa")
    assert text.count("…") == len(text.split("\n")) == 20


def capabilities(text: str) -> Capabilities:
    return read_capabilities([b"mx.example.org", *text.encode().split(b"\n")])


def test_ehlo_keywords_in_any_case() -> None:
    assert capabilities(
        "Pipelining\n8BITMIME\nSMTPUTF8\nDSN\nSTARTTLS\nSIZE 1000\nAUTH plain LOGIN"
    ) == Capabilities(
        pipelining=True,
        eight_bit=True,
        smtputf8=True,
        dsn=True,
        starttls=True,
        takes_size=True,
        size=1000,
        authentication=frozenset({"PLAIN", "LOGIN"}),
    )


def test_first_line_offers_nothing() -> None:
    assert read_capabilities([b"PIPELINING"]) == Capabilities()


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE -1", "SIZE x", f"SIZE {10**30}"])
def test_rfc1870_size_without_a_limit(size: str) -> None:
    assert capabilities(size) == Capabilities(takes_size=True)


def test_rfc9422_limits() -> None:
    found = capabilities("LIMITS MAILMAX=10 RCPTMAX=20 RCPTDOMAINMAX=1 RCPT=x =5 X")
    assert (found.messages, found.recipients) == (10, 20)
    assert capabilities("LIMITS RCPTMAX=0 MAILMAX=").recipients is None


def test_old_form_of_auth() -> None:
    assert capabilities("AUTH=LOGIN\nAUTH PLAIN").authentication == {"LOGIN", "PLAIN"}


@pytest.mark.parametrize("text", ["", " ", "\x00", "XPIPELINING", "STARTTLSX", "\x80\xff"])
def test_nonsense_offers_nothing(text: str) -> None:
    assert capabilities(text) == Capabilities()
