"""The units that fall to one deliverer: hearing of them, leasing them, and what became of them.

What waits is kept in an `Agenda`; what holds is on disk, and is read again when a unit is claimed.
The shard hears of units through its `Inbox`, and reads the whole queue (`rounds`): when it starts,
when it may have missed a hint, and every few minutes, a file at a time. So nothing waits for ever
that it was not told about.

All threads that have nothing to do wait on one epoll set, and the kernel wakes one of them for
what is new. What falls due by the clock is for one other thread to see, which then calls one.

Where a unit cannot be read or written, the others go on; what is damaged is set aside.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

from pfsmtp.mailqueue import backend, deeds, notices, upkeep
from pfsmtp.mailqueue.agenda import Agenda, Unit
from pfsmtp.mailqueue.files import Files, first_id
from pfsmtp.mailqueue.grip import Busy, Gone, Grip
from pfsmtp.mailqueue.handover import Hint, Inbox, encode, owner_of
from pfsmtp.mailqueue.lease import UnitLease
from pfsmtp.mailqueue.rounds import ROUND_EVERY, Reader, Rounds
from pfsmtp.mailqueue.segment import place_in, segment_of, slot_of, unit_of
from pfsmtp.mailqueue.slot import Damage, Head, entry_of
from pfsmtp.mailqueue.state import Phase, State

BUSY_FOR = 5.0
"""Seconds after which a unit is looked at again that somebody else had."""
TROUBLE_FOR = 60.0
"""Seconds after which a unit is looked at again that could not be read."""
NEWS_FOR = 300.0
"""Seconds in which the next deliverer has surely read the queue, before this one is closed."""


class UnitShard:
    """Implements `backend.Shard`."""

    def __init__(
        self,
        files: Files,
        index: int,
        *,
        monotonic: Callable[[], float],
        round_every: float = ROUND_EVERY,
    ) -> None:
        """Read the whole queue. Raises OSError."""
        self._files = files
        self._index = index
        self._monotonic = monotonic
        self._agenda = Agenda()
        self._unwritten: list[UnitLease] = []
        self._write_at = 0.0
        self._closed = False
        self._reading = threading.Lock()  # the inbox
        # First: what is put from now on is told, what was put before is read.
        self._inbox = Inbox(files.handover, index)
        self._bell = _Bell()  # for who keeps the time
        self._time = select.poll()
        self._time.register(self._bell.fd, select.POLLIN)
        self._call = _Bell()  # for one of those who wait
        self._news = select.epoll()
        for fd in (self._inbox.fd, self._call.fd):
            # Edge-triggered: one of them is woken, once.
            self._news.register(fd, select.EPOLLIN | select.EPOLLET)
        reader = Reader(files, self._agenda, self._is_mine, self._unclear)
        self._consider = reader.consider
        self._rounds = Rounds(files, reader, tidies=index == 0, every=round_every)
        self._rounds.finish(monotonic())

    def hear(self, timeout: float | None = None) -> None:
        for fd, _ in self._news.poll(timeout, 1):
            if fd != self._call.fd:
                self._read_inbox()

    def call(self) -> None:
        self._call.ring()

    def keep_time(self, timeout: float) -> None:
        if not self._closed:
            timeout = self._read_on(timeout)
        if self._time.poll(max(timeout, 0.0) * 1000):
            os.eventfd_read(self._bell.fd)
        if self._unwritten:
            self._write_again()
        if not self._closed and self.is_due(self._files.clock()):
            self.call()

    def wake(self) -> None:
        self._bell.ring()

    def is_due(self, now: float) -> bool:
        due = self._agenda.next_due()
        return due is not None and due <= now

    def due(self, now: float) -> Unit | None:
        return None if self._closed else self._agenda.due(now)

    def put_off(self, unit: backend.Unit, until: float) -> None:
        assert isinstance(unit, Unit)
        if self._agenda.put_off(unit, until):
            self.wake()
        if self._closed:
            self._tell_next(unit)

    def claim(self, unit: backend.Unit) -> UnitLease | None:
        assert isinstance(unit, Unit)
        now = self._files.clock()
        try:
            grip = Grip(self._files, unit.place, unit.id)
        except Busy:
            self.put_off(unit, now + BUSY_FOR)
        except (Gone, FileNotFoundError):
            self._agenda.forget(unit.place, unit.id)
        except Damage as damage:
            self.put_off(unit, now + TROUBLE_FOR)
            self._unclear(unit.place, damage)
        except OSError as error:
            self.put_off(unit, now + TROUBLE_FOR)
            self._complain(error)
        else:
            return self._lease(unit, grip, now)
        return None

    def waiting(self) -> int:
        return len(self._agenda)

    def close(self) -> None:
        with self._reading:
            if self._closed:
                return
            self._closed = True
            self._news.unregister(self._inbox.fd)
            self._inbox.close()
        # The next deliverer may have read the queue before these came, whenever they are due.
        for unit in self._agenda.newer_than(first_id(self._files.clock() - NEWS_FOR)):
            self._tell_next(unit)

    def finish(self) -> None:
        self._write_at = self._monotonic()
        self._write_again()

    def _read_inbox(self) -> None:
        """Heed what is there, all of it before somebody closes."""
        steered = False
        with self._reading:
            if not self._closed:
                try:
                    for hint in self._inbox.read():
                        self._heed(hint)
                        steered = steered or hint.wish is not None
                except OSError as error:
                    # Nobody is told of it again.
                    self._inbox.overflowed = True
                    self._complain(error)
                if self._inbox.overflowed:
                    self.wake()
        if steered and self._index == 0:
            deeds.log(self._files)

    def _lease(self, unit: Unit, grip: Grip, now: float) -> UnitLease | None:
        """Begin to work on a unit, unless it turns out that nothing is to be done now."""
        try:
            if grip.unit.wish(grip.block) is not None:
                grip.obey(now=now)
            draft = grip.state.draft
            if draft is not None and _is_due(grip.state, now):
                notices.settle_draft(self._files, grip, draft)
            if _is_due(grip.state, now):
                entry = entry_of(grip.head, grip.unit, grip.block, grip.state)
                body = upkeep.check_body(self._files, grip.head, grip.read_body())
                return UnitLease(self._files, grip, body, entry=entry, done=self._done)
            grip.end()
            self._take_back(unit.place, unit.id, grip.state)
        except Damage as damage:
            grip.abandon()
            self.put_off(unit, now + TROUBLE_FOR)
            self._unclear(unit.place, damage)
        except OSError as error:
            grip.abandon()
            self.put_off(unit, now + TROUBLE_FOR)
            self._complain(error)
        return None

    def _done(self, lease: UnitLease, state: State) -> None:
        """A lease has ended."""
        if lease.unwritten:
            self._write_at = self._monotonic() + BUSY_FOR
            self._unwritten.append(lease)
            return
        self._take_back(lease.place, lease.id, state)

    def _take_back(self, place: int, id: int, state: State) -> None:
        if state.phase is not Phase.WAITING:
            self._agenda.forget(place, id)
        elif (unit := self._agenda.find(place, id)) is not None:
            self.put_off(unit, state.next_attempt)

    def _tell_next(self, unit: Unit) -> None:
        """Leave a unit to the deliverer that comes after this one."""
        self._files.announcer.tell_owner(unit.domain, encode(unit.place, unit.id))

    def _write_again(self) -> None:
        """Try again what the disk did not take."""
        if self._monotonic() >= self._write_at:
            leases, self._unwritten = self._unwritten, []
            for lease in leases:
                lease.end_again()

    def _read_on(self, timeout: float) -> float:
        """Go on reading the queue if that is due; return how long there is to wait."""
        now = self._monotonic()
        if self._inbox.overflowed:
            self._inbox.overflowed = False
            self._rounds.start_soon(now)
        if self._rounds.step(now):
            return 0.0
        due, now = self._agenda.next_due(), self._files.clock()
        # What is due already is for those who were called, or are at work.
        return timeout if due is None or due <= now else min(timeout, due - now)

    def _heed(self, hint: Hint) -> None:
        """Somebody says that there is something at a place."""
        now = self._files.clock()
        if hint.domain is None:
            self._look(hint)
        elif self._is_mine(hint.domain):
            self._agenda.note(hint.place, hint.id, hint.domain, due=now)
        else:
            # There are more or fewer deliverers than when it was told.
            record = encode(hint.place, hint.id, hint.domain)
            self._files.announcer.tell_owner(hint.domain, record)

    def _look(self, hint: Hint) -> None:
        """Look at what the hint is about: one unit, if the operator wished for something."""
        place = place_in(segment_of(hint.place), slot_of(hint.place))
        try:
            found = self._files.segments.head_at(place)
            if found is None or found[0].id != hint.id:
                return
            units = range(found[0].units)
            if hint.wish is not None:
                units = range(unit_of(hint.place), unit_of(hint.place) + 1)
            if self._obey(place, *found, units=units):
                found = self._files.segments.head_at(place)
            if found is not None:
                self._consider(place, *found, units=units)
            if hint.wish is not None:
                self._agenda.wish(hint.place, hint.id, hint.wish)
        except Damage as damage:
            self._unclear(place, damage)
        except OSError as error:
            self._complain(error)

    def _obey(self, place: int, head: Head, octets: memoryview, *, units: range) -> bool:
        """Carry out what the operator wished; whoever has the unit does so in the end."""
        obeyed = False
        for number in units:
            unit = head.unit(number)
            block = unit.block(octets)
            if unit.wish(block) is not None and self._is_mine(unit.domain(block)):
                with suppress(Busy, Gone), Grip(self._files, place + number, head.id) as grip:
                    grip.obey_first(now=self._files.clock())
                    obeyed = True
        return obeyed

    def _is_mine(self, domain: str) -> bool:
        return owner_of(domain, self._files.announcer.deliverers) == self._index

    def _unclear(self, place: int, damage: Damage) -> None:
        """A slot makes no sense: it is being written, or damaged."""
        try:
            upkeep.set_aside(self._files, place)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        self._files.log.event("queue-trouble", reason=str(error))


class _Bell:
    """A descriptor that can be read once somebody has rung; closed when nobody has it any more."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        os.close(self.fd)

    def ring(self) -> None:
        """Never fails, since whoever rings has other things to do: at worst it rings already."""
        with suppress(OSError):
            os.eventfd_write(self.fd, 1)


def _is_due(state: State, now: float) -> bool:
    return state.phase is Phase.WAITING and state.next_attempt <= now
