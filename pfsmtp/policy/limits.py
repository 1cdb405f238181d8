"""How much one client may ask for, over all workers together.

A client is an IPv4 address, or the /64 that an IPv6 address is in, since whoever has one has all
of it. It may have so many connections at a time, open so many in a minute, and ask for so many
unknown users in a minute; above that it is answered 421, and may come again. Loopback is exempt.

The counts are in anonymous shared memory, which the master makes before it forks; nothing is left
behind when the last process is gone. Nothing is ever locked across processes: whoever is killed,
at whatever moment, holds up nobody.

    open    one column for each worker, which only this worker writes; a client's connections are
            the sum over the columns. A column is cleared when its worker has died, and so what
            the clients of that one held is given back.
    rates   one word for each cell: a minute, its count, and the count of the minute before. All
            workers write here. Two that do so at the same instant may count as one, which does no
            harm to a rate of dozens a minute.

A client is found without being stored: a hash gives it one cell in each of four rows, and the
least of four counts is its own, or higher where others share all four. While 1,000 clients are at
their limit, that happens to one in 80,000 of the rest. The hash is Python's for text and
octets, with a secret that is drawn at each start and comes along in a fork, so nobody can aim.
"""

from __future__ import annotations

import mmap
import socket
import threading
import time
from collections.abc import Callable

from pfsmtp.smtp.reply import After, Reply

MINUTE = 60.0  # seconds
FAILURES = 100  # unknown users that a client may ask for in a minute

_ROWS = 4
_CELLS = 1 << 14  # of a row
_COLUMN = _ROWS * _CELLS
_MOST = (1 << 16) - 1  # what a count can hold

_TOO_MANY = Reply(
    421, "Too many connections from your network at once; try again later", (7, 0), After.CLOSE
)
_TOO_FAST = Reply(
    421, "Too many connections from your network in a minute; try again later", (7, 0), After.CLOSE
)
_TOO_WRONG = Reply(
    421, "Too many unknown recipients from your network; try again later", (7, 0), After.CLOSE
)

Cells = tuple[int, int, int, int]


class ClientTable:
    """The shared counts; made in the master, for so many workers at most, of all generations."""

    __slots__ = ("_columns", "_taken", "connections_made", "failures")

    def __init__(self, seats: int) -> None:
        rate = _COLUMN * 8
        open_ = _COLUMN * 2 * seats
        memory = memoryview(mmap.mmap(-1, rate + rate + open_ + seats))
        self.connections_made = MinuteCounts(memory[:rate].cast("Q"))
        self.failures = MinuteCounts(memory[rate : 2 * rate].cast("Q"))
        self._columns = memory[2 * rate : 2 * rate + open_].cast("H")
        self._taken = memory[2 * rate + open_ :]

    def take_seat(self, seat: int) -> memoryview[int]:
        """Return the column of a worker, cleared."""
        self.forget_worker(seat)
        self._taken[seat] = 1
        return self._columns[seat * _COLUMN : (seat + 1) * _COLUMN]

    def forget_worker(self, seat: int) -> None:
        """Give back what a worker that died held, if nobody is to take its seat for now."""
        octets = self._columns.cast("B")[2 * seat * _COLUMN : 2 * (seat + 1) * _COLUMN]
        octets[:] = bytes(len(octets))

    def open_connections(self, cells: Cells) -> int:
        # Columns that nobody ever took are left alone: reading them would give them memory.
        end = (self._taken.tobytes().rfind(1) + 1) * _COLUMN
        return min(sum(self._columns[cell:end:_COLUMN]) for cell in cells)


class MinuteCounts:
    """What was counted in this minute and the one before, estimated for the last sixty seconds.

    Within a minute of the clock no more than the limit is let through, and less when there was much
    in the minute before. `now` is in seconds on a clock that all workers share.
    """

    __slots__ = ("_words",)

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words

    def add(self, cells: Cells, now: float) -> None:
        minute = int(now // MINUTE)
        for cell in cells:
            before, count = self._read(cell, minute)
            self._words[cell] = minute << 32 | before << 16 | min(count + 1, _MOST)

    def estimate(self, cells: Cells, now: float) -> float:
        minute, passed = divmod(now, MINUTE)
        share = 1 - passed / MINUTE
        counts = [self._read(cell, int(minute)) for cell in cells]
        return min(count + before * share for before, count in counts)

    def _read(self, cell: int, minute: int) -> tuple[int, int]:
        word = self._words[cell]
        before, count = word >> 16 & _MOST, word & _MOST
        match minute - (word >> 32):
            case 0:
                return before, count
            case 1:
                return count, 0
            case _:
                return 0, 0


class ClientLimits:
    """What a worker asks before it serves a client; safe among its threads."""

    __slots__ = ("_clock", "_column", "_connections", "_failures", "_lock", "_rate", "_table")

    def __init__(
        self,
        table: ClientTable,
        seat: int,
        *,
        connections: int,
        rate: int,
        failures: int = FAILURES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a seat at the table; `rate` and `failures` are per minute."""
        self._table = table
        self._column = table.take_seat(seat)
        self._connections = connections
        self._rate = rate
        self._failures = failures
        self._clock = clock
        self._lock = threading.Lock()

    def enter(self, address: str) -> Reply | None:
        """Count a new connection, or refuse it. After None, and only then, `leave` must follow."""
        if _is_loopback(address):
            return None
        cells = cells_of(address)
        now = self._clock()
        if self._table.failures.estimate(cells, now) > self._failures:
            return _TOO_WRONG
        # Counted before it is compared: so two workers at once cannot both find the last place.
        self._add(cells, 1)
        refusal = self._refusal(cells, now)
        if refusal is None:
            self._table.connections_made.add(cells, now)
        else:
            self._add(cells, -1)
        return refusal

    def leave(self, address: str) -> None:
        """Give back what `enter` counted."""
        if not _is_loopback(address):
            self._add(cells_of(address), -1)

    def failed(self, address: str) -> Reply | None:
        """Count an unknown user that a client asked for; refuse it when there were too many."""
        if _is_loopback(address):
            return None
        cells = cells_of(address)
        now = self._clock()
        self._table.failures.add(cells, now)
        return _TOO_WRONG if self._table.failures.estimate(cells, now) > self._failures else None

    def _refusal(self, cells: Cells, now: float) -> Reply | None:
        if self._table.open_connections(cells) > self._connections:
            return _TOO_MANY
        if self._table.connections_made.estimate(cells, now) + 1 > self._rate:
            return _TOO_FAST
        return None

    def _add(self, cells: Cells, change: int) -> None:
        column = self._column
        with self._lock:
            for cell in cells:
                # Where seats have run out, several workers have the last, and each clears it.
                column[cell] = max(0, column[cell] + change)


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def cells_of(address: str) -> Cells:
    """Return where a client is counted, in each row."""
    if ":" in address:
        network = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8]
        number = hash(network)
    else:
        number = hash(address)
    mask = _CELLS - 1
    return (
        number & mask,
        _CELLS | number >> 14 & mask,
        2 * _CELLS | number >> 28 & mask,
        3 * _CELLS | number >> 42 & mask,
    )
