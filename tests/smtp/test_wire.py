"""The compiled octet loops against a slow reference, at every split of the input."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfsmtp.smtp.wire import (
    BareLineFeed,
    Decoder,
    Input,
    LineTooLong,
    dot_stuff,
)
from tests.smtp import reference

# The octets that mean something in message data, and two that do not.
TELLING = [b"\r", b"\n", b".", b"\0", b"a", b"\xff"]

telling_octets = st.lists(
    st.sampled_from([*TELLING, b"\r\n", b"\r\n.\r\n", b"line\r\n", b"x" * 4097]), max_size=30
).map(b"".join)


def decode(pieces: Iterable[bytes], *, keep_cr: bool) -> tuple[bytes, Decoder, Input]:
    source, decoder, octets = Input(), Decoder(keep_cr=keep_cr), b""
    for piece in pieces:
        source.feed(piece)
        octets += source.data(decoder)
    return octets, decoder, source


def remainder(source: Input) -> bytes:
    """What is left in the input, read as a chunk."""
    rest = Decoder(keep_cr=True)
    rest.expect(len(source))
    return source.data(rest) if len(source) else b""


def check_against_reference(sent: bytes, pieces: Iterable[bytes], *, keep_cr: bool) -> None:
    expected = reference.decode(sent, keep_cr=keep_cr)
    octets, decoder, source = decode(pieces, keep_cr=keep_cr)
    assert decoder.ended == expected.ended
    assert len(source) == len(expected.rest)
    if not expected.ended:
        return  # a CR, or a dot, at the end may still mean this or that
    assert (decoder.bare_cr or decoder.bare_lf) == expected.bare
    assert decoder.nul == expected.nul
    if not expected.bare:
        assert octets == expected.octets
        assert decoder.size == expected.size
        assert decoder.eight_bit == (not expected.octets.isascii())
        assert decoder.longest_line == max(map(len, expected.octets.splitlines()), default=0) or (
            b"\0" in octets or b"\r" in octets
        )


def splits(octets: bytes) -> Iterator[list[bytes]]:
    yield [octets]
    yield [octets[i : i + 1] for i in range(len(octets))]
    for i in range(1, len(octets)):
        yield [octets[:i], octets[i:]]


@pytest.mark.parametrize("keep_cr", [False, True])
@pytest.mark.parametrize("length", range(7))
def test_all_short_data_decodes_as_the_reference_says_at_every_split(
    length: int, keep_cr: bool
) -> None:
    for octets in itertools.product(TELLING[:5], repeat=length):
        sent = b"".join(octets)
        for pieces in splits(sent):
            check_against_reference(sent, pieces, keep_cr=keep_cr)


def test_all_line_ends_around_a_dot_end_data_only_as_crlf_dot_crlf() -> None:
    ends = [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\r",
        b"\r\r\n",
        b"\r\0\n",
        b"\x0b",
        b"\x0c",
        "\u2028".encode(),
    ]
    for before, after in itertools.product(ends, repeat=2):
        for lead in (b"text", b"text\r\n", b""):
            sent = lead + before + b"." + after + b"QUIT\r\n.\r\nNOOP\r\n"
            for pieces in splits(sent):
                check_against_reference(sent, pieces, keep_cr=False)


@given(telling_octets, st.lists(st.integers(0, 200), max_size=10), st.booleans())
@settings(max_examples=300, deadline=None)
def test_random_data_decodes_as_the_reference_says(
    sent: bytes, cuts: list[int], keep_cr: bool
) -> None:
    edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    pieces = [sent[a:b] for a, b in itertools.pairwise(edges)]
    check_against_reference(sent, pieces, keep_cr=keep_cr)


@pytest.mark.parametrize("size", [1, 4094, 4095, 4096, 4097, 65534, 65535, 65536, 65537])
def test_end_of_data_astride_every_buffer_size_is_found(size: int) -> None:
    for shift in range(6):
        body = b"x" * (size - shift) + b"\r\n"
        octets, decoder, source = decode([body + b".\r\nQUIT\r\n"], keep_cr=True)
        assert (octets, decoder.ended, len(source)) == (body, True, 6)


def receive(source: Input, octets: bytes) -> int:
    """As recv_into does: no more than there is space for."""
    with memoryview(source) as space:
        count = min(len(space), len(octets))
        space[:count] = octets[:count]
    source.received(count)
    return count


@given(telling_octets)
@settings(max_examples=100, deadline=None)
def test_octets_received_into_the_buffer_are_those_fed(sent: bytes) -> None:
    source, decoder, octets, left = Input(), Decoder(keep_cr=True), b"", sent
    while left and not decoder.ended:
        left = left[receive(source, left) :]
        octets += source.data(decoder)
    assert octets == decode([sent], keep_cr=True)[0]


def room(source: Input) -> int:
    with memoryview(source) as space:
        return len(space)


def test_buffer_grows_for_a_message_and_for_one_that_fills_it_and_shrinks_at_the_end() -> None:
    source, decoder = Input(), Decoder(keep_cr=False)
    rooms = [room(source)]
    source.data(decoder)
    for fill in (0.5, 1, 0.5, 1):
        rooms.append(room(source))
        receive(source, b"x" * int(rooms[-1] * fill))
        source.data(decoder)
    assert rooms == [4096, 16384, 16384, 65536, 65536]
    receive(source, b"\r\n.\r\n")
    source.data(decoder)
    assert room(source) == 4096


def test_command_behind_a_short_message_is_found() -> None:
    source, decoder = Input(), Decoder(keep_cr=False)
    receive(source, b"MAIL FROM:<someone@example.org>\r\n")
    source.command(512)
    source.data(decoder)  # nothing is there yet
    receive(source, b".\r\nQUIT\r\n")
    source.data(decoder)
    assert decoder.ended
    assert source.command(512) == (b"QUIT", b"")


def test_buffer_grows_at_once_for_a_message_that_fills_a_small_one() -> None:
    source = Input()
    receive(source, b"x" * room(source))
    source.data(Decoder(keep_cr=False))
    assert room(source) == 65536


def test_input_refuses_to_move_while_its_space_is_lent() -> None:
    source = Input()
    with memoryview(source), pytest.raises(BufferError):
        source.feed(b"x")
    with pytest.raises(ValueError, match="space"):
        source.received(4097)


@given(telling_octets, st.integers(1, 9))
def test_rfc3030_chunk_keeps_dots_and_its_length(sent: bytes, piece: int) -> None:
    decoder, source, octets = Decoder(keep_cr=True), Input(), b""
    decoder.expect(len(sent))
    for start in range(0, len(sent), piece):
        source.feed(sent[start : start + piece])
        octets += source.data(decoder)
    assert decoder.ended
    assert octets == sent


def read_commands(pieces: Iterable[bytes], *, limit: int) -> list[bytes | str]:
    source, found = Input(), list[bytes | str]()
    for piece in pieces:
        source.feed(piece)
        while True:
            try:
                line = source.command(limit)
            except LineTooLong:
                found.append("too long")
                continue
            except BareLineFeed:
                return [*found, "bare"]
            if line is None:
                break
            found.append(b" ".join(line))
    return found


def read_apart(line: bytes | str) -> bytes | str:
    """Verb in upper case, one space, argument; white space behind it dropped."""
    if isinstance(line, str):
        return line
    verb, _, argument = line.rstrip(b" ").partition(b" ")
    # A verb of more than 16 octets is none we know, and stays as it is.
    return (verb.upper() if len(verb) <= 16 else verb) + b" " + argument.lstrip(b" ")


@given(
    st.lists(
        st.sampled_from([b"\r\n", b"\r", b"\n", b"noop", b" ", b"ABC", b"\0", b"12345678"]),
        max_size=20,
    ).map(b"".join)
)
@settings(max_examples=300, deadline=None)
def test_command_lines_are_cut_as_the_reference_says_at_every_split(sent: bytes) -> None:
    expected = [read_apart(line) for line in reference.commands(sent, limit=20)]
    for pieces in splits(sent):
        assert read_commands(pieces, limit=20) == expected


@pytest.mark.parametrize("length", [512, 513, 1000, 2046, 2047, 2048, 4096, 1 << 20])
def test_over_long_line_is_passed_over_in_step(length: int) -> None:
    sent = b"NOOP " + b"x" * (length - 7) + b"\r\nQUIT\r\n"
    expected = ["too long" if length > 2048 else sent[: length - 2], b"QUIT "]
    for pieces in ([sent], [sent[i : i + 1000] for i in range(0, len(sent), 1000)]):
        assert read_commands(pieces, limit=2048) == expected


@given(telling_octets, st.lists(st.integers(0, 100), max_size=5))
def test_rfc5321_4_5_2_stuffed_dots_are_those_of_the_reference(
    message: bytes, cuts: list[int]
) -> None:
    # What is stuffed is a stored message: in it a LF stands only behind a CR.
    message = message.replace(b"\r", b"").replace(b"\n", b"\r\n")
    edges = sorted({0, len(message), *(cut for cut in cuts if cut < len(message))})
    stuffed, at_line_start = b"", True
    for a, b in itertools.pairwise(edges):
        octets, at_line_start = dot_stuff(message[a:b], at_line_start)
        stuffed += octets
    assert stuffed == reference.dot_stuff(message)


@given(telling_octets)
def test_stuffed_dots_are_undone_by_the_decoder(message: bytes) -> None:
    message = message.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    stuffed, _ = dot_stuff(message, True)
    octets, decoder, _ = decode([stuffed + b".\r\n"], keep_cr=True)
    assert (octets, decoder.ended) == (message, True)
