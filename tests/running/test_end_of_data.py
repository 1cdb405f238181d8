"""Only CRLF.CRLF ends a message, whatever else looks like it and however it is cut into pieces.

Behind each sequence that looks like an end come commands that would send a second message, and then
the true end. The server has to answer once, and to leave at most one file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from tests.corpus import BUFFERS, LONGEST_LINE, TEXT
from tests.running.mail import as_sent
from tests.running.program import Program, Talk
from tests.running.segments import Segments, octet_by_octet

HEADER = b"Subject: ends\r\n\r\n"
SMUGGLED = b"MAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nsmuggled\r\n"
END = b".\r\n"
MESSAGE_SIZE = 256 * 1024

BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")

OTHER_LINE_ENDS = {"U+2028": b"\xe2\x80\xa8", "U+0085": b"\xc2\x85", "VT": b"\v", "FF": b"\f"}
LOOKS_LIKE_AN_END = {
    "LF.LF": b"\n.\n",
    "CR.CR": b"\r.\r",
    "CR.LF": b"\r.\n",
    "LF.CR": b"\n.\r",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "CRLF NUL.CRLF": b"\r\n\0.\r\n",
    "CRLF.NUL CRLF": b"\r\n.\0\r\n",
    "CRLF.SP CRLF": b"\r\n. \r\n",
    "CRLF.CR CRLF": b"\r\n.\r\r\n",
    **{f"{name}.{name}": end + b"." + end for name, end in OTHER_LINE_ENDS.items()},
    **{f"{name}.CRLF": end + b".\r\n" for name, end in OTHER_LINE_ENDS.items()},
    **{f"CRLF.{name}": b"\r\n." + end for name, end in OTHER_LINE_ENDS.items()},
}
FIRST_OF_ALL = {".LF": b".\n", ".CR": b".\r", "LF.LF": b"\n.\n", "LF.CRLF": b"\n.\r\n"}

each_end = pytest.mark.parametrize("end", LOOKS_LIKE_AN_END.values(), ids=list(LOOKS_LIKE_AN_END))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    limits = {"message_size": f"{MESSAGE_SIZE} B", "errors_slow": 100_000, "errors_close": 100_000}
    with Program.inbound(tmp_path_factory.mktemp("ends"), limits=limits) as server:
        yield server


@pytest.fixture(params=[False, True], ids=["clear", "tls"])
def encrypted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@contextmanager
def session(server: Program, *, encrypted: bool) -> Iterator[tuple[Talk, Segments]]:
    """A dialogue in which MAIL can be said, and a way to send pieces in it."""
    with ExitStack() as stack:
        client = stack.enter_context(closing(Talk(server.smtps_port if encrypted else server.port)))
        if encrypted:
            client.secure()
        client.greet()
        yield client, stack.enter_context(Segments(client.socket))


def refused(wire: bytes) -> bool:
    return BARE.search(wire) is not None


def unstuffed(wire: bytes) -> bytes:
    """The message in `wire`, which is what goes before the last dot."""
    return wire.removeprefix(b".").replace(b"\r\n.", b"\r\n")


def check(server: Program, client: Talk, wire: bytes) -> None:
    """Behind the true end: one answer, the dialogue in step, one file at most, and that whole."""
    answer = client.hear()
    assert client.say("NOOP").startswith("250 2.0.0 OK")
    stored, smuggled = server.take("alice"), server.take("bob")
    assert smuggled == []
    assert server.leftovers() == []
    if refused(wire):
        assert answer.startswith("554 5.6.0")
        assert stored == []
    else:
        assert answer.startswith("250 2.0.0")
        assert [as_sent(message) for message in stored] == [unstuffed(wire)]


def around(end: bytes, before: bytes = HEADER + b"text") -> Iterator[bytes]:
    """What is sent before the true end: the sequence after text, and after CRLF."""
    yield before + end + SMUGGLED
    yield before + b"\r\n" + end + SMUGGLED


@each_end
def test_nothing_else_ends_a_message_sent_octet_by_octet(
    server: Program, end: bytes, *, encrypted: bool
) -> None:
    for wire in around(end):
        with session(server, encrypted=encrypted) as (client, segments):
            client.envelope()
            segments.send(HEADER, *octet_by_octet(wire.removeprefix(HEADER) + END))
            check(server, client, wire)


@each_end
def test_nothing_else_ends_a_message_cut_in_two_anywhere(
    server: Program, end: bytes, *, encrypted: bool
) -> None:
    with session(server, encrypted=encrypted) as (client, segments):
        for wire in around(end):
            start = wire.index(end, len(HEADER))
            for cut in range(start - 1, start + len(end) + 1):
                client.envelope()
                segments.send(wire[:cut], wire[cut:] + END)
                check(server, client, wire)


@pytest.mark.parametrize("end", FIRST_OF_ALL.values(), ids=list(FIRST_OF_ALL))
def test_nothing_else_ends_a_message_right_after_354(
    server: Program, end: bytes, *, encrypted: bool
) -> None:
    wire = end + SMUGGLED
    with session(server, encrypted=encrypted) as (client, segments):
        for cut in range(1, len(end) + 2):
            client.envelope()
            segments.send(wire[:cut], wire[cut:] + END)
            check(server, client, wire)


@pytest.mark.parametrize("buffer", BUFFERS[:3])
@each_end
def test_nothing_else_ends_a_message_astride_a_buffer(
    server: Program, end: bytes, buffer: int, *, encrypted: bool
) -> None:
    with session(server, encrypted=encrypted) as (client, _):
        for size in range(buffer - len(end), buffer + 1):
            wire = filled(size) + end + SMUGGLED
            client.envelope()
            client.send(wire + END)
            check(server, client, wire)


def filled(size: int) -> bytes:
    """So many octets of header and text, the last line without its end."""
    text = HEADER + TEXT * (size // len(TEXT))
    return text[: size - 1].removesuffix(b"\r").ljust(size, b"x")


@each_end
def test_nothing_else_ends_a_message_over_the_size_limit(
    server: Program, end: bytes, *, encrypted: bool
) -> None:
    with session(server, encrypted=encrypted) as (client, segments):
        for wire in around(end, before=filled(MESSAGE_SIZE)):
            cut = len(wire) - len(SMUGGLED) - 1
            client.envelope()
            segments.send(wire[:cut], wire[cut:] + END)
            check_refusal(server, client, "552 5.3.4")


@each_end
def test_nothing_else_ends_a_message_with_a_line_that_is_too_long(
    server: Program, end: bytes, *, encrypted: bool
) -> None:
    with session(server, encrypted=encrypted) as (client, segments):
        for wire in around(end, before=HEADER + (LONGEST_LINE + 1) * b"x"):
            cut = len(wire) - len(SMUGGLED) - 1
            client.envelope()
            segments.send(wire[:cut], wire[cut:] + END)
            check_refusal(server, client, "554 5.6.0")


def check_refusal(server: Program, client: Talk, status: str) -> None:
    assert client.hear().startswith(status)
    assert client.say("NOOP").startswith("250 2.0.0 OK")
    assert [server.files(login) for login in ("alice", "bob")] == [[], []]
    assert server.leftovers() == []


@pytest.mark.parametrize("wire", [b"", HEADER, HEADER + b"text\r\n", HEADER + b"..\r\n"])
def test_the_end_is_seen_wherever_it_is_cut(
    server: Program, wire: bytes, *, encrypted: bool
) -> None:
    whole = wire + END + b"NOOP\r\n"
    with session(server, encrypted=encrypted) as (client, segments):
        for cut in range(1, len(whole)):
            client.envelope()
            segments.send(whole[:cut], whole[cut:])
            assert client.hear().startswith("250 2.0.0 Message")
            check_noop(server, client, wire)
        client.envelope()
        segments.send(*octet_by_octet(whole))
        assert client.hear().startswith("250 2.0.0 Message")
        check_noop(server, client, wire)


def check_noop(server: Program, client: Talk, wire: bytes) -> None:
    assert client.hear().startswith("250 2.0.0 OK")
    assert [as_sent(message) for message in server.take("alice")] == [unstuffed(wire)]
