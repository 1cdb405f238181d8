"""The files of the queue: each is a row of slots of one size, made once and written over again and
again.

    slots/4k/00000001      512 slots of 4 KiB
    slots/16k/00000003     128 slots of 16 KiB …

A file is written full of zeros and synced before it gets its name, so that a slot can be written
without a change to the file's size, blocks or directory: then a durable write is one write to the
disk and one flush of its cache, and the file system's journal has nothing to do. Numbers never
recur: the file with the highest is never removed.

This is the door of `ext/slot.pyx`. A *pen* is an open description of a segment's file that one
thread has to itself for one message put or one lease: its locks are those of one holder. What was
written with it becomes durable by the file's *group commit*, which syncs once for all threads of
the process that wait for that at the same moment. That has a description of its own, to which the
kernel reports each write that is lost from when it was opened on: so who writes asks for it first.

Locks (F_OFD_SETLK; they die with the process that holds them):

    octet of a slot's offset + n    lease of unit n
    last octet of a slot            a wish is being written beside a unit that somebody has
    all octets of a slot            it is being written, or set aside
    octet OWNER                     the right to put messages into the free slots of this file

What is in a slot is left to `slot`, which slots are free to `vacancies`. Fails with OSError.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pfsmtp import durable
from pfsmtp.mailqueue import _slot
from pfsmtp.mailqueue.slot import PAGE, Head, is_empty, reach

GroupCommit = _slot.GroupCommit
store = _slot.store
claim = _slot.claim
settle = _slot.settle
write = _slot.write
lock = _slot.lock
unlock = _slot.unlock
some_lock = _slot.some_lock

OWNER = 1 << 60
"""The octet whose lock is the right to put messages into a file's free slots."""

_IDLE_PENS = 128
_GROUP_COMMITS = 64
_ZEROS = bytes(64 * 1024)
_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Kind:
    """A size of slot: how large, and how many in a file."""

    number: int
    name: str
    size: int
    count: int


KINDS = (
    Kind(0, "4k", 4 << 10, 512),
    Kind(1, "16k", 16 << 10, 128),
    Kind(2, "128k", 128 << 10, 16),
    Kind(3, "1m", 1 << 20, 2),
    Kind(4, "8m", 8 << 20, 1),
)


def kind_for(size: int) -> Kind | None:
    """The smallest kind of slot that takes so many octets."""
    for kind in KINDS:
        if size <= kind.size:
            return kind
    return None


# A place is one number: kind, number of the file, slot, unit. A segment is its first two.
_SLOT_BITS, _UNIT_BITS = 12, 16
_WITHIN = _SLOT_BITS + _UNIT_BITS
MOST_UNITS = 1 << _UNIT_BITS


def segment_id(kind: Kind, number: int) -> int:
    return kind.number << 32 | number


def place_in(segment: int, slot: int, unit: int = 0) -> int:
    return segment << _WITHIN | slot << _UNIT_BITS | unit


def segment_of(place: int) -> int:
    return place >> _WITHIN


def slot_of(place: int) -> int:
    return place >> _UNIT_BITS & (1 << _SLOT_BITS) - 1


def unit_of(place: int) -> int:
    return place & (1 << _UNIT_BITS) - 1


def kind_of(segment: int) -> Kind:
    return KINDS[segment >> 32]


def name_of(segment: int) -> str:
    """The path of a segment's file within `slots/`."""
    return f"{kind_of(segment).name}/{segment & 0xFFFFFFFF:08d}"


def offset_of(place: int) -> int:
    """Where a place's slot begins in its file."""
    return slot_of(place) * kind_of(segment_of(place)).size


def wish_lock_of(place: int) -> int:
    """The octet of a place's slot to lock while a wish is written in it."""
    kind = kind_of(segment_of(place))
    return slot_of(place) * kind.size + kind.size - 1


class Segments:
    """The files of one queue, and this process's pens for them. Safe among threads."""

    def __init__(
        self,
        slots: durable.Directory,
        tmp: durable.Directory,
        *,
        now: float,
        only_reading: bool = False,
    ) -> None:
        """Open the directories in `slots/`, made when missing; new files are made in `tmp/`.

        With `only_reading`, none are made, and pens do not write.
        """
        self._slots = slots
        self._tmp = tmp
        self._flags = _READ if only_reading else _OPEN
        self._kinds = [
            durable.Directory(kind.name, parent=slots)
            if only_reading
            else durable.make_directory(kind.name, parent=slots, now=now)
            for kind in KINDS
        ]
        self._lock = threading.Lock()
        self._pens: OrderedDict[int, list[int]] = OrderedDict()
        self._idle = 0
        self._group_commits: dict[int, GroupCommit] = {}

    def existing(self, kind: Kind) -> list[int]:
        """The segments of that kind, the newest last."""
        names = os.listdir(self._kinds[kind.number].fd)
        return sorted(segment_id(kind, int(name)) for name in names if is_number(name))

    def foreign(self, kind: Kind) -> list[str]:
        """Names in the directory of that kind which are not those of segments."""
        return [name for name in os.listdir(self._kinds[kind.number].fd) if not is_number(name)]

    def directory(self, kind: Kind) -> durable.Directory:
        return self._kinds[kind.number]

    def open(self, segment: int, flags: int | None = None) -> int:
        """Return a new description of its file."""
        flags = self._flags if flags is None else flags
        return os.open(name_of(segment), flags, dir_fd=self._slots.fd)

    def take(self, segment: int) -> int:
        """Return a pen, to be given back; or closed, when something went wrong with it."""
        with self._lock:
            if segment in self._pens:
                return self._pop(segment)
        return self.open(segment)

    def group_commit(self, segment: int) -> GroupCommit:
        """Return what makes durable what is written to a segment from now on; for all threads."""
        found = self._group_commits.get(segment)
        return found if found is not None and not found.failed else self._new_group_commit(segment)

    def give(self, segment: int, pen: int) -> None:
        """Take a pen back, which holds no lock any more."""
        surplus = -1
        with self._lock:
            self._pens.setdefault(segment, []).append(pen)
            self._pens.move_to_end(segment)
            self._idle += 1
            if self._idle > _IDLE_PENS:
                surplus = self._pop(next(iter(self._pens)))
        if surplus >= 0:
            with suppress(OSError):  # all that was written with it is on disk
                os.close(surplus)

    @contextmanager
    def pen(self, segment: int) -> Iterator[int]:
        """A pen for a `with` block, that unlocks whatever it has locked."""
        pen = self.take(segment)
        try:
            yield pen
        except BaseException:
            self.spoil(segment, pen)
            raise
        unlock(pen, 0, 0)
        self.give(segment, pen)

    def spoil(self, segment: int, pen: int) -> None:
        """Something went wrong with this pen: close it, and all idle ones of the segment.

        The kernel tells each description of a lost write in its time; what the others were to be
        told has been told.
        """
        with self._lock:
            idle = self._pens.pop(segment, [])
            self._idle -= len(idle)
        for each in (pen, *idle):
            with suppress(OSError):
                os.close(each)

    def close(self) -> None:
        """Close the idle pens, and what makes durable what was written with them."""
        with self._lock:
            pens = [pen for idle in self._pens.values() for pen in idle]
            self._pens.clear()
            self._idle = 0
            self._group_commits.clear()
        for pen in pens:
            os.close(pen)

    def read(self, place: int, size: int) -> memoryview:
        """Read a place's slot from its beginning, to its end at most; takes no lock."""
        segment = segment_of(place)
        with self.pen(segment) as pen:
            return memoryview(os.pread(pen, min(size, kind_of(segment).size), offset_of(place)))

    def head_at(self, place: int) -> tuple[Head, memoryview] | None:
        """Read what is in a place's slot, up to the body; None if nothing is.

        Raises Damage, OSError.
        """
        try:
            octets = self.read(place, PAGE)
        except FileNotFoundError:
            return None  # all in it was free
        if is_empty(octets):
            return None
        needed = reach(octets)
        if needed > PAGE:
            octets = self.read(place, needed)
        return Head(octets), octets

    def create(self, kind: Kind) -> tuple[int, int]:
        """Make a file of free slots; return the segment, and a description that is its owner."""
        name = f"{kind.name}.{os.urandom(8).hex()}"
        size = kind.size * kind.count
        durable.store(self._tmp, name, [_ZEROS] * (size // len(_ZEROS)))
        owner = -1
        try:
            owner = os.open(name, _OPEN, dir_fd=self._tmp.fd)
            lock(owner, OWNER, 1)
            return self._name(name, kind), owner
        except BaseException:
            if owner >= 0:
                os.close(owner)
            with suppress(OSError):
                durable.remove(self._tmp, name)
            raise

    def adopt(self, segment: int) -> int | None:
        """Become the owner of a file that has none: the description that is, or None."""
        try:
            owner = self.open(segment)
        except FileNotFoundError:
            return None
        try:
            # It may have been removed meanwhile.
            if lock(owner, OWNER, 1) and os.fstat(owner).st_nlink:
                return owner
        except BaseException:
            os.close(owner)
            raise
        os.close(owner)
        return None

    def remove(self, segment: int) -> None:
        """Remove a file of free slots; the caller is its owner."""
        durable.remove(self._slots_of(segment), f"{segment & 0xFFFFFFFF:08d}")
        self.spoil(segment, -1)
        with self._lock:
            self._group_commits.pop(segment, None)

    def heads(self, segment: int) -> Iterator[tuple[int, memoryview]]:
        """Read the first page of each slot; takes no lock, and leaves out what the file lacks."""
        kind = kind_of(segment)
        fd = self.open(segment, _READ)
        try:
            if kind.size == PAGE:
                whole = memoryview(os.pread(fd, PAGE * kind.count, 0))
                for slot in range((len(whole) + PAGE - 1) // PAGE):
                    yield slot, whole[slot * PAGE : (slot + 1) * PAGE]
                return
            for slot in range(kind.count):
                page = os.pread(fd, PAGE, slot * kind.size)
                if page:
                    yield slot, memoryview(page)
        finally:
            os.close(fd)

    def locked(self, segment: int) -> list[tuple[int, int]]:
        """The octets of a file's slots that others hold locks on, as `start, end`; takes none."""
        kind = kind_of(segment)
        found = []
        ranges = [(0, kind.size * kind.count)]
        fd = self.open(segment, _READ)
        try:
            while ranges:
                start, end = ranges.pop()
                held = some_lock(fd, start, end - start) if start < end else None
                if held is not None:
                    found.append(held)
                    ranges += [(start, held[0]), (held[1], end)]
        finally:
            os.close(fd)
        return found

    def _name(self, name: str, kind: Kind) -> int:
        directory = self._kinds[kind.number]
        existing = self.existing(kind)
        number = (existing[-1] & 0xFFFFFFFF) + 1 if existing else 1
        while True:
            try:
                durable.move(self._tmp, name, directory, f"{number:08d}")
                break
            except FileExistsError:
                number += 1  # another process was quicker
        try:
            directory.sync()
        except OSError:
            # A directory whose sync has failed says so for ever; it may be well with another.
            self._kinds[kind.number] = durable.Directory(kind.name, parent=self._slots)
            raise
        return segment_id(kind, number)

    def _slots_of(self, segment: int) -> durable.Directory:
        return self._kinds[kind_of(segment).number]

    def _new_group_commit(self, segment: int) -> GroupCommit:
        with self._lock:
            known = self._group_commits
            found = known.pop(segment, None)
            if found is None or found.failed:
                fd = self.open(segment)
                try:
                    found = GroupCommit(fd)
                except BaseException:
                    os.close(fd)
                    raise
            known[segment] = found
            if len(known) > _GROUP_COMMITS:
                del known[next(iter(known))]  # whoever is at it keeps it until he is done
            return found

    def _pop(self, segment: int) -> int:
        """Take out an idle pen; the caller holds `_lock`."""
        idle = self._pens[segment]
        self._idle -= 1
        pen = idle.pop()
        if not idle:
            del self._pens[segment]
        return pen


def is_number(name: str) -> bool:
    """Whether this is the name of a segment's file."""
    return len(name) == 8 and name.isascii() and name.isdigit()
