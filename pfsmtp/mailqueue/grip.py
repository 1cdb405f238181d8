"""One unit under its lock: what is on disk, and the only way to change it.

Whoever changes a unit has a grip on it: a deliverer's lease, the operator's command, a shard that
lets a notice go. A new state is written over the older of the two on disk, durably; then the lock
goes. A process that is killed loses the lock and nothing else: the unit is as it was last written.

How it fails: `Busy` when somebody else has it, `Gone` when there is nothing to be done about it
any more, `Damage` when it cannot be read, OSError.
"""

from __future__ import annotations

import os
from contextlib import suppress

from msgspec.structs import replace

from pfsmtp import durable
from pfsmtp.mailqueue import slot, state
from pfsmtp.mailqueue.entry import Wish, text_of
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.segment import (
    GroupCommit,
    claim,
    kind_of,
    offset_of,
    segment_of,
    settle,
    unit_of,
    unlock,
    write,
)
from pfsmtp.mailqueue.slot import Block, Damage, Head
from pfsmtp.mailqueue.state import Phase

_FIRST_READ = 16 * 1024
"""Octets that are read at first: of most messages, all."""


class Busy(Exception):
    """Somebody else works on the unit."""


class Gone(Exception):
    """The unit is finished, or was long ago, and another message is in its place."""


class Grip:
    """The lock on one unit, and what it is on. Of one thread; ends with `end` or `drop`.

    `state` is to be set to what is to be; it is on disk after `write` or `end`. If `durable` is
    set to False, `end` does not wait for the disk, and the caller syncs the file himself.
    """

    __slots__ = (
        "_files",
        "_lock_at",
        "_octets",
        "_offset",
        "_pen",
        "_segment",
        "_size",
        "_written",
        "block",
        "durable",
        "head",
        "place",
        "state",
        "unit",
    )

    def __init__(self, files: Files, place: int, id: int) -> None:
        """Lock a unit of the message of that id. Raises Busy, Gone, Damage, OSError."""
        segment = segment_of(place)
        self._files = files
        self._segment = segment
        self._size = kind_of(segment).size
        self.place = place
        self.durable = True
        self._offset = offset_of(place)
        self._lock_at = self._offset + unit_of(place)
        self._pen = files.segments.take(segment)
        try:
            self._begin(id)
        except Busy:
            files.segments.give(segment, self._pen)
            raise
        except Gone:
            self.drop()
            raise
        except BaseException:
            files.segments.spoil(segment, self._pen)
            raise

    def is_finished(self) -> bool:
        return self.state.phase is Phase.FINISHED

    def _begin(self, id: int) -> None:
        """Lock and read: the head, and of the units the one that is meant."""
        octets = claim(self._pen, self._lock_at, self._offset, min(self._size, _FIRST_READ))
        if octets is None:
            raise Busy
        self._octets = memoryview(octets)
        if slot.is_empty(self._octets):
            raise Gone
        self.head = head = Head(self._read(0, slot.head_reach(self._octets)))
        if head.id != id:
            raise Gone
        self.unit = unit = head.unit(unit_of(self.place))
        self.block = Block(self._read(unit.start, unit.end))
        self.state = self._written = unit.state(self.block)
        if self.is_finished():
            raise Gone

    def read_body(self) -> bytes:
        """What is in the slot of the body; nothing if it has a file of its own."""
        return bytes(self._read(self.head.body_at, self.head.end))

    def _read(self, start: int, end: int) -> memoryview:
        """Octets of the slot, as many as there are."""
        end = min(end, self._size)
        if end <= len(self._octets):
            return self._octets[start:end]
        return memoryview(os.pread(self._pen, max(end - start, 0), self._offset + start))

    def wished(self) -> tuple[int, Wish] | None:
        """What the operator wished while the unit was taken, with its number; None if nothing."""
        octets = os.pread(self._pen, slot.WISH_SIZE, self._offset + self.unit.start)
        return self._unmet(self.unit.wish(octets))

    def obey(self, *, now: float) -> None:
        """Carry out what the operator wished while the unit was taken, durably."""
        self._carry_out(self.wished(), now)

    def obey_first(self, *, now: float) -> None:
        """As `obey`, of what was wished before the unit was taken; which has been read."""
        self._carry_out(self._unmet(self.unit.wish(self.block)), now)

    def _unmet(self, wish: tuple[int, Wish] | None) -> tuple[int, Wish] | None:
        return wish if wish is not None and wish[0] > self.state.wish else None

    def _carry_out(self, wish: tuple[int, Wish] | None, now: float) -> None:
        if wish is not None:
            number, wanted = wish
            self.state = state.carry_out(self.state, wanted, number=number, now=now)
            self.write()

    def write(self) -> None:
        """Make the state durable; the lock stays. Raises OSError, and the unit stays locked."""
        if self.state is not self._written:
            at, octets = self._next()
            write(self._pen, self._group_commit(), at, octets)
            self._written = self.state

    def end(self) -> None:
        """Make the state durable, and let go. Raises OSError, and the unit stays locked."""
        if self.is_finished() and self.head.measures.outside:
            self.write()
            self._remove_body()
        if self.state is self._written:
            self.drop()
            return
        at, octets = self._next()
        if self.durable:
            settle(self._pen, self._group_commit(), at, octets, self._lock_at)
        else:
            os.pwrite(self._pen, octets, at)
            unlock(self._pen, self._lock_at, 1)
        self._written = self.state
        self._files.segments.give(self._segment, self._pen)

    def __enter__(self) -> Grip:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        """End it, or abandon it after an exception; in any case the lock goes."""
        if kind is not None:
            self.abandon()
            return
        try:
            self.end()
        except OSError:
            self.abandon()
            raise

    def drop(self) -> None:
        """Let go; what was not written is forgotten."""
        unlock(self._pen, self._lock_at, 1)
        self._files.segments.give(self._segment, self._pen)

    def abandon(self) -> None:
        """As `drop`, after something went wrong."""
        self._files.segments.spoil(self._segment, self._pen)

    def _group_commit(self) -> GroupCommit:
        """Not kept: one that has failed is replaced."""
        return self._files.segments.group_commit(self._segment)

    def _next(self) -> tuple[int, bytes]:
        """Number the state; return where it goes, and its octets."""
        self.state = replace(self.state, version=self._written.version + 1)
        at = self._offset + self.unit.state_at(self.state.version)
        return at, self.unit.encode(self.state)

    def _remove_body(self) -> None:
        """Remove the body's own file once no unit needs it; a crash leaves it to the upkeep.

        The lock keeps another message from being put in the slot meanwhile.
        """
        with suppress(OSError, Damage):
            if slot.is_free(self._files.segments.read(self.place, self.head.body_at)):
                durable.remove(self._files.bodies, text_of(self.head.id))
