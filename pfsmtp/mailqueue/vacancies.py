"""Free slots for this process to put messages into.

A process puts messages only into files that it owns, by a lock that dies with it; so processes
need not agree on each slot, and one that is killed leaves nothing taken. It finds out which slots
have become free by looking, once it has none left: at the files it owns, then at some that nobody
owns (from an earlier start, or of a process that died), and makes a new file when these do not
help.

Messages are put into one file until it is full, so that those who wait for the disk at the same
moment wait for the same file, which is synced once for all of them (`segment`).

A slot that was taken is in use until it is seen to be free on disk. It is not looked at while its
message is being put, when the former one can still be read there.

What makes a slot free is left to `slot`. Fails with OSError when no file can be made.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from pfsmtp.mailqueue.segment import KINDS, Kind, Segments, kind_of, place_in, segment_of, slot_of
from pfsmtp.mailqueue.slot import PAGE, Damage, is_free, reach

_ADOPTIONS = 2  # files of others that are looked at before a new one is made
_FREE, _FILLING, _IN_USE = 0, 1, 2


@dataclass(slots=True)
class _Owned:
    """A file this process owns, and how each slot in it is."""

    segment: int
    owner: int  # the description that holds the lock
    slots: bytearray
    free: list[int] = field(default_factory=list)


class Vacancies:
    """The free slots of the files that this process owns. Safe among threads."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._locks = [threading.Lock() for _ in KINDS]
        self._owned: list[dict[int, _Owned]] = [{} for _ in KINDS]
        self._others: list[list[int]] = [[] for _ in KINDS]

    def take(self, kind: Kind) -> int:
        """Return the place of a free slot, which is the caller's to fill. Raises OSError."""
        with self._locks[kind.number]:
            place = self._pop(kind)
            if place is not None:
                return place
            try:
                self._replenish(kind)
            except OSError:
                # No room for another file: what was found before is used up first.
                place = self._pop(kind)
                if place is None:
                    raise
                return place
            place = self._pop(kind)
            assert place is not None
            return place

    def written(self, place: int) -> None:
        """The caller is done with the slot: it is in use until it is seen to be free."""
        segment = segment_of(place)
        owned = self._owned[kind_of(segment).number][segment]
        owned.slots[slot_of(place)] = _IN_USE

    def close(self) -> None:
        """Give up all files; no message is being put any more."""
        for kind in KINDS:
            with self._locks[kind.number]:
                for owned in self._owned[kind.number].values():
                    os.close(owned.owner)
                self._owned[kind.number].clear()

    def _pop(self, kind: Kind) -> int | None:
        for owned in self._owned[kind.number].values():
            if owned.free:
                slot = owned.free.pop()
                owned.slots[slot] = _FILLING
                return place_in(owned.segment, slot)
        return None

    def _replenish(self, kind: Kind) -> None:
        """Look for free slots where they may be; make a new file unless there are enough.

        Files that are nearly full are given up then: to look at them again and again is dear.
        """
        mine = self._owned[kind.number]
        full = []
        free = 0
        for owned in mine.values():
            found = self._look(owned)
            if found <= kind.count // 8 and _FILLING not in owned.slots:
                full.append(owned)
            else:
                free += found
        if free < max(kind.count // 4, 1) and not self._adopt(kind):
            self._own(*self._segments.create(kind), free=kind.count)
        for owned in full:
            os.close(owned.owner)
            del mine[owned.segment]

    def _adopt(self, kind: Kind) -> bool:
        """Become the owner of a file with free slots that has none; whether there was one."""
        for _ in range(_ADOPTIONS):
            segment = self._another(kind)
            if segment is None:
                return False
            owner = self._segments.adopt(segment)
            if owner is None:
                continue
            found = self._look(self._own(segment, owner))
            if found > kind.count // 8:
                return True
            os.close(owner)
            del self._owned[kind.number][segment]
        return False

    def _another(self, kind: Kind) -> int | None:
        """A file that this process does not own; each is named once before any is again.

        The newest come first: the older ones are full of what has waited for long.
        """
        others = self._others[kind.number]
        if not others:
            others += self._segments.existing(kind)
        while others:
            segment = others.pop()
            if segment not in self._owned[kind.number]:
                return segment
        return None

    def _own(self, segment: int, owner: int, *, free: int = 0) -> _Owned:
        """Note a file as owned, of which the first slots are known to be free."""
        kind = kind_of(segment)
        slots = bytearray([_FREE]) * free + bytearray([_IN_USE]) * (kind.count - free)
        owned = _Owned(segment, owner, slots, list(reversed(range(free))))
        self._owned[kind.number][segment] = owned
        return owned

    def _look(self, owned: _Owned) -> int:
        """Gather the slots that have become free; return how many."""
        free = []
        # As it was before they are read: what is filled meanwhile was read as it had been.
        before = bytes(owned.slots)
        for slot, page in self._segments.heads(owned.segment):
            # What is damaged is in use until somebody has set it aside.
            if before[slot] == _IN_USE:
                with suppress(Damage):
                    if self._is_free(owned.segment, slot, page):
                        free.append(slot)
        if free:
            taken = self._locked(owned.segment)
            free = [slot for slot in free if slot not in taken]
        for slot in free:
            owned.slots[slot] = _FREE
        free.reverse()
        owned.free = free + owned.free
        return len(owned.free)

    def _locked(self, segment: int) -> set[int]:
        """The slots that somebody has: the disk may still be noting down that they are free."""
        size = kind_of(segment).size
        return {
            slot
            for start, end in self._segments.locked(segment)
            for slot in range(start // size, (end - 1) // size + 1)
        }

    def _is_free(self, segment: int, slot: int, page: memoryview) -> bool:
        needed = reach(page)
        if needed > PAGE:
            page = self._segments.read(place_in(segment, slot), needed)
        return is_free(page)
