"""Where answers go: lines for a person or objects for a program, as they come.

A reader who has seen enough is a BrokenPipeError; any other trouble with writing a QueueError.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import TextIO

from pfsmtp.operator import record
from pfsmtp.operator.record import Object
from pfsmtp.operator.trouble import QueueError

_NARROWEST = 80
_UNKNOWN_WIDTH = 120


class Output:
    """A text stream, and what the reader of it wants."""

    def __init__(self, stream: TextIO, *, json: bool) -> None:
        self.json = json
        self.columns = max(shutil.get_terminal_size((_UNKNOWN_WIDTH, 0)).columns, _NARROWEST)
        self._stream = stream

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines that are fit for a terminal."""
        for line in lines:
            self._write(line)

    def objects(self, objects: Iterable[Object]) -> None:
        """Write objects, one a line."""
        for each in objects:
            self._write(record.line(each))

    def octets(self, pieces: Iterable[bytes]) -> None:
        """Write octets just as they are."""
        try:
            self._stream.flush()
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._stream.fileno(), rest) :]
        except OSError as error:
            raise _failure(error) from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise _failure(error) from error

    def _write(self, line: str) -> None:
        try:
            self._stream.write(f"{line}\n")
        except OSError as error:
            raise _failure(error) from error


def _failure(error: OSError) -> OSError | QueueError:
    if isinstance(error, BrokenPipeError):
        return error
    return QueueError(f"the output cannot be written: {error.strerror}")
