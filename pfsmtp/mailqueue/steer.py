"""What the operator wants done, carried out on disk; by a process that need not be the server's.

A unit that nobody has is changed under its lock, at once. One that is under attempt has the wish
written beside its state: whoever has it carries it out before anything else when the attempt ends,
and can ask for it meanwhile. Either way the deliverers are told, if any run, and what was done gets
into the server's log (`deeds`).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import groupby

from pfsmtp.mailqueue import deeds, state, survey
from pfsmtp.mailqueue.entry import Selection, View, Wish
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.grip import Busy, Gone, Grip
from pfsmtp.mailqueue.handover import encode
from pfsmtp.mailqueue.segment import (
    lock,
    name_of,
    offset_of,
    segment_of,
    unit_of,
    wish_lock_of,
    write,
)
from pfsmtp.mailqueue.slot import Damage

_TRIES, _PAUSE = 1000, 0.002  # whoever has a slot for its wishes has it for milliseconds


def carry_out(files: Files, wish: Wish, selection: Selection) -> int:
    """Do it with all units that are selected; return with how many. Raises OSError."""
    done = 0
    for segment, units in groupby(
        survey.found(files, selection), key=lambda found: segment_of(found[0])
    ):
        with suppress(FileNotFoundError):  # it was removed: all in it was finished
            done += _carry_out_in(files, wish, segment, units)
    return done


def _carry_out_in(files: Files, wish: Wish, segment: int, units: Iterable[tuple[int, View]]) -> int:
    """Do it with units of one file, which is synced once for them all; then tell the deliverers."""
    hints = []
    done = []
    commit = files.segments.group_commit(segment)
    for place, view in units:
        id = int(view.entry.id, 16)
        try:
            if not _change(files, wish, place, id):
                _leave(files, wish, place, id)
                # Who had it may have let go before the wish was there.
                _obey(files, place, id)
        except (Gone, Damage):
            continue
        hints.append(encode(place, id, wish=wish))
        done.append(view)
    commit.sync()
    if done:
        deeds.leave(files, wish, done)
    for hint in hints:
        files.announcer.tell_all(hint)
    return len(hints)


def _change(files: Files, wish: Wish, place: int, id: int) -> bool:
    """Change a unit; False when somebody else has it. Raises Gone, Damage, OSError."""
    try:
        with Grip(files, place, id) as grip:
            now = files.clock()
            grip.obey_first(now=now)
            grip.state = state.carry_out(grip.state, wish, number=grip.state.wish + 1, now=now)
            grip.durable = False
    except Busy:
        return False
    return True


def _leave(files: Files, wish: Wish, place: int, id: int) -> None:
    """Write a wish beside the state of a unit that somebody has. Raises Gone, Damage, OSError."""
    segment = segment_of(place)
    with files.segments.pen(segment) as pen:
        if not _hold_slot(pen, wish_lock_of(place)):
            raise OSError(errno.EAGAIN, "somebody else is steering this message", name_of(segment))
        found = files.segments.head_at(place)
        if found is None or found[0].id != id:
            raise Gone
        head, octets = found
        unit = head.unit(unit_of(place))
        block = unit.block(octets)
        before = unit.wish(block)
        number = max(unit.state(block).wish, before[0] if before else 0) + 1
        commit = files.segments.group_commit(segment)
        write(pen, commit, offset_of(place) + unit.start, unit.encode_wish(number, wish))


def _hold_slot(pen: int, at: int) -> bool:
    """Lock the slot against another message being put, and against other wishes."""
    for _ in range(_TRIES):
        if lock(pen, at, 1):
            return True
        time.sleep(_PAUSE)
    return False


def _obey(files: Files, place: int, id: int) -> None:
    try:
        with Grip(files, place, id) as grip:
            grip.obey_first(now=files.clock())
    except (Busy, Gone):
        return
