"""The body of a message on its way out: from its slot, or from a file of its own.

Both implement `smtp.client_transaction.Content`. A body is read whole, and held against its
checksum, before anything of it is given out: so that nothing damaged is ever sent in part. Reading
it fails with OSError at first, and with TransientFailure later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from zlib import crc32

from pfsmtp.mailqueue.slot import Damage, Measures
from pfsmtp.smtp.errors import TransientFailure

_PIECE = 64 * 1024
_AT_ONCE = 256 * 1024


class SlotBody:
    """What was read along with the slot."""

    __slots__ = ("_octets", "size")

    def __init__(self, octets: bytes, measures: Measures) -> None:
        """Raises Damage."""
        if len(octets) != measures.length or crc32(octets) != measures.crc:
            raise Damage("the body is not what was written")
        self._octets = octets
        self.size = measures.length

    def pieces(self) -> Iterator[bytes]:
        octets = self._octets
        if self.size <= _PIECE:
            yield octets
            return
        start = 0
        while start < self.size:
            end = start + _PIECE
            end += octets[end - 1 : end] == b"\r"  # a CRLF is not cut in two
            yield octets[start:end]
            start = end

    def close(self) -> None:
        """There is nothing to close."""


class FileBody:
    """What is in `bodies/`; the descriptor is closed with `close`."""

    __slots__ = ("_fd", "size")

    def __init__(self, fd: int, measures: Measures) -> None:
        """Own `fd`, also when this raises Damage or OSError."""
        self._fd = fd
        self.size = measures.length
        try:
            self._check(measures)
        except BaseException:
            os.close(fd)
            raise

    def pieces(self) -> Iterator[bytes]:
        at = 0
        while at < self.size:
            piece = self._read(at, min(_PIECE, self.size - at))
            if piece.endswith(b"\r") and at + len(piece) < self.size:
                piece += self._read(at + len(piece), 1)
            at += len(piece)
            yield piece

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)

    def _read(self, at: int, size: int) -> bytes:
        try:
            octets = os.pread(self._fd, size, at)
        except OSError as error:
            raise TransientFailure(3, 0, "The message in the queue cannot be read") from error
        if not octets:
            raise TransientFailure(3, 0, "The message in the queue has become shorter")
        return octets

    def _check(self, measures: Measures) -> None:
        if os.fstat(self._fd).st_size != measures.length:
            raise Damage("the body has another length than was written")
        crc = at = 0
        while at < measures.length:
            octets = os.pread(self._fd, _AT_ONCE, at)
            if not octets:
                break
            crc = crc32(octets, crc)
            at += len(octets)
        if crc != measures.crc:
            raise Damage("the body is not what was written")
