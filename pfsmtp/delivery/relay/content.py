"""The octets of a message on their way out: a part of a file, or what was made in memory.

They have CRLF line ends. A file that is shorter than it should be raises TransientFailure: what the
queue lost is not the sender's fault, and a message is never sent in part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pfsmtp.smtp.errors import TransientFailure

# A piece goes to the kernel at once, and has the time of one block (RFC 5321 §4.5.3.2.5).
_PIECE = 65_536


class FileContent:
    """`size` octets of an open file, from `offset` on; the descriptor stays the caller's."""

    __slots__ = ("_fd", "_offset", "size")

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._offset = offset
        self.size = size

    def pieces(self) -> Iterator[bytes]:
        if self.size <= _PIECE:
            yield self._read(self._offset, self.size)
            return
        position, end = self._offset, self._offset + self.size
        while position < end:
            piece = self._read(position, min(_PIECE, end - position))
            position += len(piece)
            if piece.endswith(b"\r") and position < end:
                # A CRLF is not cut in two.
                piece += self._read(position, 1)
                position += 1
            yield piece

    def _read(self, offset: int, size: int) -> bytes:
        octets = self._pread(offset, size)
        while len(octets) < size:
            more = self._pread(offset + len(octets), size - len(octets))
            if not more:
                raise TransientFailure(3, 0, "the message in the queue is damaged")
            octets += more
        return octets

    def _pread(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            raise TransientFailure(3, 0, "the message in the queue cannot be read") from error


class OctetsContent:
    """A message in memory."""

    __slots__ = ("_octets", "size")

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)

    def pieces(self) -> Iterator[bytes]:
        position = 0
        while position < self.size:
            end = position + _PIECE
            if self._octets[end - 1 : end] == b"\r":
                end += 1
            yield self._octets[position:end]
            position = end
