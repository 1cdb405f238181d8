"""What a deliverer has to do and when, in memory: the units that wait, sorted by when they are due.

A unit is here while it waits, also while it is handed out. Few octets for each: where its message
is, not what. Knows nothing of files; whether what it says still holds shows when a unit is claimed.
"""

from __future__ import annotations

import sys
import threading
from heapq import heappop, heappush
from typing import NamedTuple

from pfsmtp.mailqueue.entry import Wish


class Unit(NamedTuple):
    """One message to one domain, waiting; units sort by when they are due, then by place."""

    due: float
    place: int
    id: int
    domain: str
    wish: Wish | None = None

    def __lt__(self, other: Unit) -> bool:  # type: ignore[override]
        return self[:2] < other[:2]


class Agenda:
    """The units of one deliverer. Safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, Unit] = {}  # by place
        self._out: set[int] = set()  # places of those that were handed out
        self._heap: list[Unit] = []  # also of some that are not known any more

    def __len__(self) -> int:
        return len(self._known)

    def note(self, place: int, id: int, domain: str, *, due: float) -> bool:
        """A unit is waiting until then; whether it is now the first of all.

        One that is handed out stays so: it is as it is found when it is claimed.
        """
        with self._lock:
            known = self._known.get(place)
            if known is not None and known.id == id:
                if place in self._out or known.due == due:
                    return False
            else:
                self._out.discard(place)
            return self._push(Unit(due, place, id, sys.intern(domain)))

    def put_off(self, unit: Unit, until: float) -> bool:
        """Take back a unit that was handed out; whether it is now the first of all."""
        with self._lock:
            if not self._is_known(unit.place, unit.id):
                return False
            self._out.discard(unit.place)
            return self._push(unit._replace(due=until, wish=None))

    def wish(self, place: int, id: int, wish: Wish) -> None:
        """The operator has wished for something; one that is handed out is being seen to."""
        with self._lock:
            if self._is_known(place, id) and place not in self._out:
                self._push(self._known[place]._replace(wish=wish))

    def forget(self, place: int, id: int) -> None:
        """The unit does not wait any more."""
        with self._lock:
            if self._is_known(place, id):
                del self._known[place]
                self._out.discard(place)

    def find(self, place: int, id: int) -> Unit | None:
        with self._lock:
            return self._known[place] if self._is_known(place, id) else None

    def due(self, now: float) -> Unit | None:
        """Hand out the unit that is due first, if any is."""
        with self._lock:
            first = self._first()
            if first is None or first.due > now:
                return None
            heappop(self._heap)
            self._out.add(first.place)
            return first

    def next_due(self) -> float | None:
        """When the first of those is due that are not handed out."""
        with self._lock:
            first = self._first()
            return None if first is None else first.due

    def newer_than(self, id: int) -> list[Unit]:
        """Those of higher ids, which are later messages, that are not handed out."""
        with self._lock:
            return [
                unit
                for unit in self._known.values()
                if unit.id > id and unit.place not in self._out
            ]

    def _is_known(self, place: int, id: int) -> bool:
        known = self._known.get(place)
        return known is not None and known.id == id

    def _push(self, unit: Unit) -> bool:
        self._known[unit.place] = unit
        heappush(self._heap, unit)
        return self._first() is unit

    def _first(self) -> Unit | None:
        """Drop what is not known any more, or handed out, from the top of the heap."""
        heap = self._heap
        while heap:
            first = heap[0]
            if self._known.get(first.place) is first and first.place not in self._out:
                return first
            heappop(heap)
        return None
