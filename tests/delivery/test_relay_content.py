"""The octets of a message on their way out: whole, in order, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pfsmtp.delivery.relay.content import FileContent, OctetsContent
from pfsmtp.smtp.errors import TransientFailure

PIECE = 65_536


def messages() -> list[bytes]:
    """Around the size of a piece, with a CRLF at every place around its end."""
    return [
        b"",
        b"a",
        b"a\r\n",
        *(b"a" * (PIECE - back) + b"\r\n" + b"b" * 10 + b"\r\n" for back in range(4)),
        b"\r\n" * PIECE,
        b"a" + b"\r\n" * PIECE,
        b"a" * (PIECE - 1) + b"\r",
    ]


@pytest.mark.parametrize("message", messages())
def test_pieces_are_the_message_and_cut_no_line_end_in_two(tmp_path: Path, message: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before" + message + b"\nbehind")
    with file.open("rb") as opened:
        for content in (OctetsContent(message), FileContent(opened.fileno(), 6, len(message))):
            assert content.size == len(message)
            for _ in range(2):  # for each host anew
                pieces = list(content.pieces())
                assert b"".join(pieces) == message
                assert not any(piece.endswith(b"\r") for piece in pieces[:-1])
                assert all(len(piece) <= PIECE + 1 for piece in pieces)


@pytest.mark.parametrize("size", [5, PIECE, 10 * PIECE])
def test_file_that_is_too_short_is_a_failure_for_now(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes((size - 1) * b"a")
    with file.open("rb") as opened:
        pieces = FileContent(opened.fileno(), 0, size).pieces()
        with pytest.raises(TransientFailure, match="damaged"):
            list(pieces)


def test_file_that_cannot_be_read_is_a_failure_for_now(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(TransientFailure, match="cannot be read"):
            list(FileContent(fd, 0, 5).pieces())
    finally:
        os.close(fd)
