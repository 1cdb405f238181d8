"""A queue in memory: the smallest back end there can be, to hold the tests of the contract to.

It is also the model that the back end of files is compared with.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from pfsmtp.mailqueue import backend, state
from pfsmtp.mailqueue.entry import (
    Addressee,
    Condition,
    Damaged,
    Entry,
    Selection,
    View,
    Wish,
)
from pfsmtp.mailqueue.handover import owner_of
from pfsmtp.mailqueue.slot import by_domain
from pfsmtp.mailqueue.state import Draft, Phase, State
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.outcome import Outcome
from pfsmtp.smtp.ports import Receipt


@dataclass(slots=True, eq=False)
class Unit:
    """One message to one domain; the only thing that is stored."""

    id: str
    domain: str
    envelope: Envelope
    octets: bytes
    queued_at: float
    state: State
    due: float  # in memory: when the shard hands it out
    out: bool = False
    holder: Lease | None = None
    wish: Wish | None = None
    wishes: list[Wish] = field(default_factory=list)

    @property
    def entry(self) -> Entry:
        progress = self.state.progress
        lines = self.octets.split(b"\r\n")
        return Entry(
            id=self.id,
            domain=self.domain,
            envelope=self.envelope,
            addressees=tuple(
                Addressee(recipient, each.outcome, each.owed)
                for recipient, each in zip(self.envelope.recipients, progress, strict=True)
            ),
            queued_at=self.queued_at,
            size=len(self.octets),
            eight_bit=not self.octets.isascii(),
            long_lines=max(map(len, lines)) > 998,
            attempts=self.state.attempts,
            tried_at=self.state.tried_at,
            delay_reported=self.state.delay_reported,
        )

    def carry_out(self, wish: Wish, now: float) -> None:
        number = self.state.wish + 1
        self.state = state.carry_out(self.state, wish, number=number, now=now)

    def obey(self, now: float) -> None:
        """Carry out what was wished for while somebody had the unit."""
        for wish in self.wishes[-1:]:
            self.carry_out(wish, now)
        self.wishes.clear()


class Intake:
    def __init__(self, queue: MemoryQueue, envelope: Envelope) -> None:
        self.id = f"{next(queue.ids):016X}"
        self._queue = queue
        self._envelope = envelope
        self._octets = b""

    def write(self, octets: bytes) -> None:
        self._octets += octets

    def commit(self) -> Receipt:
        now = self._queue.clock()
        envelope = self._envelope
        for domain, recipients in by_domain(envelope.recipients).items():
            part = _with_recipients(envelope, recipients)
            begun = state.begin(len(recipients), due=now)
            self._queue.add(Unit(self.id, domain, part, self._octets, now, begun, now))
        return Receipt(self.id)

    def abort(self) -> None:
        self._octets = b""


class Report(Intake):
    def __init__(
        self, queue: MemoryQueue, envelope: Envelope, lease: Lease, about: Collection[int]
    ) -> None:
        super().__init__(queue, envelope)
        self._lease = lease
        self._about = about

    def commit(self) -> Receipt:
        receipt = super().commit()
        self._lease.told(self._about)
        return receipt


class Body:
    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self._octets = octets

    def pieces(self) -> Iterator[bytes]:
        yield self._octets


class Lease:
    def __init__(self, queue: MemoryQueue, unit: Unit) -> None:
        self.body = Body(unit.octets)
        self._queue = queue
        self._unit = unit
        self._safe = unit.state  # what outlives the process
        self._counted = False

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self.ended:
            self.release(self._queue.clock() + 300)

    @property
    def entry(self) -> Entry:
        return self._unit.entry

    @property
    def ended(self) -> bool:
        return self._unit.holder is not self

    def revoked(self) -> bool:
        return any(wish in (Wish.HOLD, Wish.DELETE, Wish.BOUNCE) for wish in self._unit.wishes[-1:])

    def record(self, outcomes: Mapping[int, Outcome], *, owed: Collection[int] = ()) -> None:
        self._check_open()
        unit = self._unit
        if not self._counted:
            self._counted = True
            unit.state = state.attempted(unit.state, self._queue.clock())
        unit.state = state.record(unit.state, outcomes, owed)
        if any(outcome.is_final for outcome in outcomes.values()):
            self._unit.obey(self._queue.clock())
            self._safe = unit.state
        self._finish()

    def report(self, envelope: Envelope, about: Collection[int] = ()) -> Report:
        self._check_open()
        return Report(self._queue, envelope, self, about)

    def told(self, about: Collection[int]) -> None:
        self._unit.state = state.draft(self._unit.state, Draft(0, 0, tuple(about)))
        self._unit.state = self._safe = state.told(self._unit.state)
        self._finish()

    def release(self, until: float, *, reason: str = "") -> None:
        self._check_open()
        self._unit.state = state.postpone(self._unit.state, until, reason)
        self._unit.obey(self._queue.clock())
        self._end()

    def die(self) -> None:
        """The process that has the lease is killed."""
        self._unit.state = self._safe
        self._end()

    def _finish(self) -> None:
        if self._unit.state.phase is Phase.FINISHED:
            self._end()

    def _end(self) -> None:
        self._unit.holder = None
        self._unit.out = False
        self._unit.due = self._unit.state.next_attempt
        self._unit.wish = None
        self._queue.tidy()

    def _check_open(self) -> None:
        if self.ended:
            raise RuntimeError("the lease has ended")


class Shard:
    def __init__(self, queue: MemoryQueue, index: int) -> None:
        self._queue = queue
        self._index = index
        self._closed = False
        self._news = queue.news
        self._bell = threading.Event()

    def _units(self) -> Iterator[Unit]:
        for unit in self._queue.units:
            if owner_of(unit.domain, self._queue.deliverers) == self._index:
                yield unit

    def hear(self, timeout: float | None = None) -> None:
        self._news.acquire(timeout=timeout)

    def call(self) -> None:
        self._news.release()

    def keep_time(self, timeout: float) -> None:
        now = self._queue.clock()
        dues = [unit.due - now for unit in self._units() if _is_waiting(unit)]
        self._bell.wait(min([timeout, *(due for due in dues if due > 0)]))
        self._bell.clear()
        if self.is_due(self._queue.clock()):
            self.call()

    def wake(self) -> None:
        self._bell.set()

    def is_due(self, now: float) -> bool:
        return any(_is_waiting(unit) and unit.due <= now for unit in self._units())

    def due(self, now: float) -> Unit | None:
        ready = [unit for unit in self._units() if _is_waiting(unit) and unit.due <= now]
        if not ready or self._closed:
            return None
        first = min(ready, key=lambda unit: unit.due)
        first.out = True
        return first

    def put_off(self, unit: backend.Unit, until: float) -> None:
        assert isinstance(unit, Unit)
        unit.out = False
        unit.due = until
        unit.wish = None
        self.wake()

    def claim(self, unit: backend.Unit) -> Lease | None:
        assert isinstance(unit, Unit)
        now = self._queue.clock()
        if unit.holder is not None:
            self.put_off(unit, now + 5)
            return None
        unit.obey(now)
        self._queue.tidy()
        phase, due = unit.state.phase, unit.state.next_attempt
        if unit not in self._queue.units or phase is not Phase.WAITING or due > now:
            unit.out = False
            unit.due = due
            return None
        unit.holder = Lease(self._queue, unit)
        return unit.holder

    def waiting(self) -> int:
        return sum(1 for unit in self._units() if unit.state.phase is Phase.WAITING)

    def close(self) -> None:
        self._closed = True

    def finish(self) -> None:
        """Nothing is ever left to be noted."""


class MemoryQueue:
    """Implements `backend.Queue`, for one process."""

    def __init__(self, *, deliverers: int, clock: Callable[[], float]) -> None:
        self.units: list[Unit] = []
        self.deliverers = deliverers
        self.clock = clock
        self.ids = itertools.count(1)
        self.news = threading.Semaphore(0)

    def begin(self, envelope: Envelope) -> Intake:
        return Intake(self, envelope)

    def room_for(self, size: int) -> bool:
        return size < 1 << 40

    def shard(self, index: int) -> Shard:
        return Shard(self, index)

    def views(self, selection: Selection) -> Iterator[View]:
        for unit in self._selected(selection):
            yield _view(unit)

    def damaged(self) -> list[Damaged]:
        return []

    def carry_out(self, wish: Wish, selection: Selection) -> int:
        units = list(self._selected(selection))
        for unit in units:
            if unit.holder is not None:
                unit.wishes.append(wish)
            else:
                unit.obey(self.clock())
                unit.carry_out(wish, self.clock())
                if not unit.out:
                    unit.due = unit.state.next_attempt
                    unit.wish = wish
        self.tidy()
        self.news.release()
        return len(units)

    def add(self, unit: Unit) -> None:
        self.units.append(unit)
        self.news.release()

    def tidy(self) -> None:
        self.units = [unit for unit in self.units if unit.state.phase is not Phase.FINISHED]

    def _selected(self, selection: Selection) -> Iterator[Unit]:
        for unit in self.units:
            if _view(unit).condition in selection.conditions and selection.wants(unit.entry):
                yield unit


def _is_waiting(unit: Unit) -> bool:
    return unit.state.phase is Phase.WAITING and not unit.out and unit.holder is None


def _view(unit: Unit) -> View:
    condition = Condition.HELD if unit.state.phase is Phase.HELD else Condition.WAITING
    if unit.holder is not None:
        condition = Condition.ACTIVE
    return View(unit.entry, condition, unit.state.next_attempt, unit.state.reason)


def _with_recipients(envelope: Envelope, recipients: list[Recipient]) -> Envelope:
    return Envelope(
        envelope.reverse_path,
        tuple(recipients),
        envelope.body,
        envelope.smtputf8,
        envelope.returning,
        envelope.envelope_id,
    )
