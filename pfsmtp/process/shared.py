"""Memory that the master makes before it forks, and all its workers see.

`SharedLock` is a `multiprocessing` semaphore that outlives a holder killed with kill -9: who holds
it is noted beside it, whoever wants it waits a bounded time, and the master frees what the dead
held. `Numbers` counts across all processes and threads; `Heartbeat` is how a worker shows that it
lives.

Everything here is anonymous memory and a semaphore whose name is gone before its first use, so that
nothing is left behind in /dev/shm however the processes end. What is stored, and what it means, is
left to those who ask. No promise of uniqueness may rest on `Numbers` alone: a lock that was freed
because its holder seemed dead may, for an instant, have two holders.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WORD = 8  # octets of one number in shared memory; an aligned one is written at once
_HOLDER, _TURN = 0, 1  # what the two words beside a lock are
_NOBODY = 0
_PRIVATE = 1 << 62  # numbers from here on were taken without the lock


class Words:
    """`count` unsigned 64-bit numbers in anonymous shared memory, zero at first."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * _WORD)
        self._words = memoryview(self._memory).cast("Q")

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value

    def __len__(self) -> int:
        return len(self._words)

    def close(self) -> None:
        """Unmap it in this process; the others keep it."""
        self._words.release()
        self._memory.close()


class SharedLock:
    """Mutual exclusion among processes and threads, for sections that last microseconds."""

    def __init__(self) -> None:
        self._semaphore = multiprocessing.get_context("fork").BoundedSemaphore(1)
        self._words = Words(2)
        self._stale_turn: int | None = None

    def acquire(self, timeout: float) -> bool:
        """Take the lock; False when it could not be had within `timeout` seconds."""
        if not self._semaphore.acquire(True, timeout):
            return False
        self._words[_HOLDER] = os.getpid()
        self._words[_TURN] += 1
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._words[_HOLDER] = _NOBODY
        self._post()

    @contextmanager
    def held(self, timeout: float) -> Iterator[bool]:
        """Hold the lock for a `with` block, which is told whether it was had."""
        taken = self.acquire(timeout)
        try:
            yield taken
        finally:
            if taken:
                self.release()

    def free_dead(self, pid: int) -> bool:
        """Free the lock if process `pid`, which has been reaped, died as its holder."""
        if self._words[_HOLDER] != pid:
            return False
        self.release()
        return True

    def free_unnoted(self) -> bool:
        """Free the lock if it is held, and nobody has noted that they hold it, twice in a row.

        A process can be killed between taking the lock and noting its pid, or the other way round
        when it gives it back. Called by the master about once a second: a live process is between
        the two for microseconds, and the turn tells one holder from the next.
        """
        held = self._semaphore.get_value() == 0
        turn = self._words[_TURN] if held and self._words[_HOLDER] == _NOBODY else None
        if turn is None or turn != self._stale_turn:
            self._stale_turn = turn
            return False
        self._stale_turn = None
        self._post()
        return True

    def _post(self) -> None:
        try:
            self._semaphore.release()
        except ValueError:
            # It is free already: the master had taken us for dead.
            return


class Numbers:
    """A counter common to all workers and their threads; no number is given twice.

    Each process takes a block at a time under the lock. Where the lock cannot be had in time, the
    block comes from a range of the process's own: mail goes on, with longer numbers.
    """

    def __init__(
        self,
        *,
        block: int = 256,
        timeout: float = 1.0,
        getpid: Callable[[], int] = os.getpid,
    ) -> None:
        self._block = block
        self._timeout = timeout
        self._getpid = getpid
        self._lock = SharedLock()
        self._shared = Words(1)
        self._threads = threading.Lock()
        self._owner = _NOBODY
        self._next = 0
        self._end = 0
        self._private = 0

    def next(self) -> int:
        """Return the next number, from 1 on. Never fails; waits `timeout` seconds at most."""
        with self._threads:
            # After a fork, what is left of the block is the parent's.
            if self._next == self._end or self._owner != self._getpid():
                self._next = self._take_block()
                self._end = self._next + self._block
                self._owner = self._getpid()
            self._next += 1
            return self._next

    def free_dead(self, pid: int) -> bool:
        """Free what the reaped process `pid` held; True when it did hold something."""
        return self._lock.free_dead(pid)

    def tick(self) -> bool:
        """Free what a holder held who died unnoted; for the master, about once a second."""
        return self._lock.free_unnoted()

    def _take_block(self) -> int:
        with self._lock.held(self._timeout) as taken:
            if taken:
                start = self._shared[0]
                self._shared[0] = start + self._block
                return start
        start = _PRIVATE + (self._getpid() << 32) + self._private
        self._private += self._block
        return start


class Heartbeat:
    """When a worker's main thread last came round, in seconds of the monotonic clock."""

    def __init__(self, now: float) -> None:
        self._words = Words(1)
        self.beat(now)

    def beat(self, now: float) -> None:
        self._words[0] = int(now * 1e9)

    @property
    def last(self) -> float:
        return self._words[0] / 1e9

    def close(self) -> None:
        self._words.close()
