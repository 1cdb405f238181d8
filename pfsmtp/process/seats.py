"""Numbered seats: each live worker has one of its own, for what is shared by seat.

A worker takes a seat for itself, whatever its generation; the master frees it when the worker has
died. What belongs to the seat is cleared in between, before anybody sits there again.
"""

from __future__ import annotations

import os

from pfsmtp.process.shared import SharedLock, Words

_NOBODY = 0
_PATIENCE = 2.0  # seconds


class Seats:
    """Made by the master before it forks."""

    def __init__(self, count: int) -> None:
        self._lock = SharedLock()
        self._holders = Words(count)

    def take(self) -> int:
        """A seat for this process; the last one, shared, when there is no other."""
        with self._lock.held(_PATIENCE) as mine:
            if mine:
                for seat in range(len(self._holders) - 1):
                    if self._holders[seat] == _NOBODY:
                        self._holders[seat] = os.getpid()
                        return seat
        return len(self._holders) - 1

    def of(self, pid: int) -> int | None:
        """The seat of a worker that has died and been reaped; for the master."""
        self._lock.free_dead(pid)
        for seat in range(len(self._holders)):
            if self._holders[seat] == pid:
                return seat
        return None

    def free(self, seat: int) -> None:
        """Let another have it; for the master."""
        self._holders[seat] = _NOBODY
