"""Keeps a worker to one core, for as long as that core has time for it.

The threads of a Python process take turns. A second core helps them little, and costs much when
they move: what one has in its cache the other has to fetch, reference counts above all. For the
same reason a thread that wakes is not to interrupt the one that runs (`SCHED_BATCH`): it would only
find that it has to wait for its turn (the GIL).

Both are bad where another program computes on that core, since whoever wakes there waits for the
end of that one's time slice, though another core may be idle. So the worker looks at its core now
and then, lets go of it when others keep it busy, and tries again later.

Where a process may not choose, or the kernel does not say how busy its cores are, nothing changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

_TICK = 1 / os.sysconf("SC_CLK_TCK")
# Where the idle time is in a line of /proc/stat; behind it, the time waiting for disks.
_IDLE = 3
_LONGEST_LINE = 256  # octets, of /proc/stat

_SHORTEST_LOOK = 0.5  # seconds; less says little, in ticks of 10 ms
_BUSY = 0.95  # of its time a core was not idle
_LITTLE = 1 / 3  # of that time, that a worker had, is too little when the rest went to others
_CROWDED_LOOKS = 2  # in a row, until a core is let go
_REST = 60.0  # seconds until it is tried again


@dataclass(frozen=True, slots=True)
class Usage:
    """What had become of a core's time up to a moment; all in seconds."""

    now: float
    idle: float

    def taken(self, since: Usage) -> float:
        """The share of the time in which the core was not idle."""
        return 1.0 - (self.idle - since.idle) / (self.now - since.now)


class Core:
    """The core of a worker. `settle` and `look` are for its main thread."""

    def __init__(
        self,
        number: int,
        *,
        usage: Callable[[int], Usage | None] | None = None,
        spent: Callable[[], float] = time.process_time,
    ) -> None:
        """Numbers count on round the cores that this process may use; negative ones from the last.

        `spent` says how much time this process has had, on whatever core. The kernel adds it up
        over all threads, and there can be thousands: it is asked only while the core is busy.

        Files of /proc are opened here, while that is still permitted.
        """
        self._allowed = os.sched_getaffinity(0)
        cores = sorted(self._allowed)
        self._number = cores[number % len(cores)]
        self._usage = usage if usage is not None else Meter().read
        self._spent = spent
        self._threads = _open("/proc/self/task")
        self._last: Usage | None = None
        self._ours: float | None = None  # what we had spent by then; None: not asked
        self._crowded = 0
        self._rest_ends: float | None = None  # None: settled

    def settle(self) -> None:
        """Keep all threads, and those that they start, to the core."""
        self._rest_ends = None
        self._apply({self._number}, os.SCHED_BATCH)

    def look(self) -> float | None:
        """See whether the core still has time for us. Called about once a second.

        Returns for what share of its time the core was taken since the last look; None when
        that is not known.
        """
        usage = self._usage(self._number)
        last = self._last
        if usage is None or (last is not None and usage.now - last.now < _SHORTEST_LOOK):
            return None
        self._last = usage
        if self._rest_ends is not None:
            if usage.now >= self._rest_ends:
                self.settle()
        elif last is not None:
            self._crowded = self._crowded + 1 if self._is_crowded(usage, last) else 0
            if self._crowded == _CROWDED_LOOKS:
                self._let_go(usage.now)
        return 0.0 if last is None else usage.taken(last)

    def _is_crowded(self, usage: Usage, last: Usage) -> bool:
        """Whether there was no time for us, and who had it was mostly others.

        Of the first busy time after an idle one it is not known who had it.
        """
        before, self._ours = self._ours, self._spent() if usage.taken(last) >= _BUSY else None
        if before is None or self._ours is None:
            return False
        return self._ours - before <= _LITTLE * (usage.now - last.now)

    def _let_go(self, now: float) -> None:
        self._crowded = 0
        self._rest_ends = now + _REST
        self._apply(self._allowed, os.SCHED_OTHER)

    def _apply(self, cores: set[int], policy: int) -> None:
        # A second time for threads that another had started before it was seen to itself.
        for thread in [*self._tasks(), *self._tasks()]:
            # It may have ended, or it may not choose.
            with suppress(OSError):
                os.sched_setaffinity(thread, cores)
                os.sched_setscheduler(thread, policy, os.sched_param(0))

    def _tasks(self) -> Iterator[int]:
        return map(int, os.listdir(self._threads) if self._threads is not None else ())


class Meter:
    """Reads how a core's time was spent, from a file that was opened at the start."""

    def __init__(self) -> None:
        self._file = _open("/proc/stat")

    def read(self, core: int) -> Usage | None:
        """Return the usage of a core; None where it is not known."""
        if self._file is None:
            return None
        for line in os.pread(self._file, _LONGEST_LINE * (core + 2), 0).splitlines():
            name, *ticks = line.split()
            if name == b"cpu%d" % core and len(ticks) > _IDLE + 1:
                idle = (int(ticks[_IDLE]) + int(ticks[_IDLE + 1])) * _TICK
                return Usage(time.monotonic(), idle)
        return None


def _open(path: str) -> int | None:
    """A descriptor; None where there is no such file, as without /proc."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
