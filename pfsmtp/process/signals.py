"""Signals as names to be read from a pipe, in the order they came.

The handlers do nothing: Python's own C handler writes the signal's number to a pipe, and the main
loop reads it when it comes round. A process that does not read while 65,536 signals come loses the
rest.

`blocked` keeps signals off for as long as a fork takes. Without it a signal that reaches the child
before the child has a pipe of its own would be written to the pipe it shares with its parent, which
would then take the child's TERM for its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

_CHUNK = 4096


class SignalPipe:
    """The signals of this process that are acted upon, and those that are ignored."""

    def __init__(self, names: Iterable[str], *, ignored: Iterable[str] = ()) -> None:
        """Take over the signals called `names` ("hup", "term"); only in the main thread."""
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for name in ignored:
            signal.signal(_number(name), signal.SIG_IGN)
        for name in names:
            signal.signal(_number(name), _enqueued)
            # System calls of other threads, those of compiled code too, go on where they can.
            signal.siginterrupt(_number(name), False)

    def fileno(self) -> int:
        return self._reader

    def read(self) -> list[str]:
        """Return the names of the signals that came since the last call, at once."""
        numbers = bytearray()
        try:
            while chunk := os.read(self._reader, _CHUNK):
                numbers += chunk
        except BlockingIOError:
            pass
        return [signal.Signals(number).name.removeprefix("SIG").lower() for number in numbers]

    def forget(self) -> None:
        """Close the descriptors, for a child of which this pipe is not."""
        os.close(self._reader)
        os.close(self._writer)


@contextmanager
def blocked() -> Iterator[None]:
    """Hold all signals back, and let them come when the block ends."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Let signals come, in a child that was forked inside `blocked`."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _number(name: str) -> signal.Signals:
    return signal.Signals[f"SIG{name.upper()}"]


def _enqueued(number: int, frame: FrameType | None) -> None:
    """Stand in for the C handler, which has written the number to the pipe."""
