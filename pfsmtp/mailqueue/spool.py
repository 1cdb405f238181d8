"""The back end that keeps the queue in files: slots that are made once and written over again.

A message is on disk as the contents of one slot (`slot`, `segment`); a body too large for it has a
file of its own. What is there at each moment, and what a crash (of a process, or of the machine)
leaves:

    state           on disk                                  a crash leaves
    --------------  ---------------------------------------  -------------------------------------
    free            first page zeros, or all units finished  free
    being received  nothing; over 112 KiB: bodies/ID         a body of nothing, swept after 36 h
    being put       the slot, partly the former message      free still; or damaged, set aside,
                                                             never delivered; or whole, waiting
    acknowledged    head, envelope, body, state `waiting`    waiting
    at work         the same; locked                         waiting: the lock dies
    being recorded  the older of its two states torn         as before: it may be delivered again
    recorded        the newer state                          recorded
    held            state `held`                             held
    notice drafted  a state with a draft                     the notice is owed still
    notice put      its slot, `prepared`; the draft          found by the draft, and counts
    notice told     no draft; `prepared`                     let go by the shard that finds it
    wished for      a wish beside the states                 done before the next attempt
    finished        state `finished` in all units            free; a body swept after 36 h
    set aside       damaged/…, then the slot wiped           damaged still, or a copy too many

A process that is killed loses its locks with its life; nothing waits for a time-out. What the
machine loses with the power are writes that had not returned: nothing that was acknowledged or
recorded.

Cost of putting a message and of finishing it: one durable write each, to blocks that exist, with
nothing for the file system's journal to do. See docs/decisions/0008-queue-slots.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pfsmtp.mailqueue import steer, survey
from pfsmtp.mailqueue.backend import EventLog
from pfsmtp.mailqueue.entry import Damaged, Selection, View, Wish
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.intake import Intake
from pfsmtp.mailqueue.shard import UnitShard
from pfsmtp.smtp.envelope import Envelope

_ROOM_IS_GOOD_FOR = 1.0
"""Seconds for which the free space of the disk is taken to be what it was."""
_RESERVE = 16 << 20
"""Octets that are left free on the disk."""


class Spool:
    """Implements `backend.Queue`. Made in each process that uses the queue, after the fork."""

    def __init__(
        self,
        path: Path,
        *,
        deliverers: int | None,
        log: EventLog,
        number: Callable[[], int],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Open the queue in directory `path`, made when missing. Raises OSError.

        `number` counts for all processes; `clock` is in Unix seconds. `deliverers` is None for the
        operator, who tells those that are there.
        """
        self._files = Files(
            path, deliverers=deliverers, log=log, clock=clock, number=number, random=random
        )
        self._clock = clock
        self._monotonic = monotonic
        self._room = (0.0, 0)  # until when it is good, octets

    def begin(self, envelope: Envelope) -> Intake:
        return Intake(self._files, envelope)

    def room_for(self, size: int) -> bool:
        now = self._clock()
        until, room = self._room
        if not until - _ROOM_IS_GOOD_FOR <= now < until:
            stat = os.fstatvfs(self._files.root.fd)
            room = stat.f_bavail * stat.f_frsize - _RESERVE
            self._room = (now + _ROOM_IS_GOOD_FOR, room)
        return size <= room

    def shard(self, index: int) -> UnitShard:
        return UnitShard(self._files, index, monotonic=self._monotonic)

    def views(self, selection: Selection) -> Iterator[View]:
        return survey.views(self._files, selection)

    def damaged(self) -> list[Damaged]:
        return survey.damaged(self._files)

    def carry_out(self, wish: Wish, selection: Selection) -> int:
        return steer.carry_out(self._files, wish, selection)

    def close(self) -> None:
        """Close what is open, when no message is being put and no lease is held any more."""
        self._files.close()
