"""Queues to be tested, each in a world whose clock stands still and whose processes can die."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from pfsmtp.mailqueue.backend import Lease, Queue, Shard, Unit
from pfsmtp.mailqueue.entry import Selection, View
from pfsmtp.mailqueue.lease import UnitLease
from pfsmtp.mailqueue.shard import UnitShard
from pfsmtp.mailqueue.spool import Spool
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status
from tests.mailqueue import memory
from tests.mailqueue.memory import MemoryQueue

START = 1_700_000_000.0
SENDER = Mailbox("sender", "example.net")
MESSAGE = b"Subject: a message\r\n\r\nHello.\r\n"

DELIVERED = Outcome(Kind.DELIVERED, Status(2, 0, 0), "taken", "mx.example.org", "192.0.2.1")
DEFERRED = Outcome(Kind.DEFERRED, Status(4, 2, 0), "come again", "mx.example.org", "192.0.2.1")
FAILED = Outcome(Kind.FAILED, Status(5, 1, 1), "no such user", "mx.example.org", command="RCPT")


class Clock:
    """Unix time, which stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Events:
    """A log that is kept."""

    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def event(self, name: str, /, **fields: object) -> None:
        self.lines.append((name, fields))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.lines]


def envelope(*recipients: str, sender: Mailbox | None = SENDER, **parameters: Any) -> Envelope:
    mailboxes = [Mailbox(*each.rsplit("@", 1)) for each in recipients]
    return Envelope(sender, tuple(Recipient(mailbox) for mailbox in mailboxes), **parameters)


def put(queue: Queue, *recipients: str, message: bytes = MESSAGE) -> str:
    """Put a message; returns its id."""
    intake = queue.begin(envelope(*recipients))
    intake.write(message)
    return intake.commit().id


class World(Protocol):
    """A queue, and what a test can do to those who use it."""

    clock: Clock
    queue: Queue

    def shard(self, index: int = 0) -> Shard:
        """Start a deliverer; those before go on."""
        ...

    def claim(self, shard: Shard) -> Lease:
        """Lease the unit that is due next."""
        ...

    def note(self, lease: Lease) -> None:
        """A lease was claimed, that a restart is to end."""
        ...

    def restart(self) -> None:
        """All processes are killed, and `queue` is that of a new one."""
        ...

    def kill(self, lease: Lease) -> None:
        """The process that holds this lease is killed."""
        ...

    def close(self) -> None: ...


class MemoryWorld:
    """Where the processes of a queue in memory live."""

    def __init__(self, deliverers: int) -> None:
        self.clock = Clock()
        self._memory = MemoryQueue(deliverers=deliverers, clock=self.clock)
        self.queue: Queue = self._memory

    def shard(self, index: int = 0) -> Shard:
        return self.queue.shard(index)

    def claim(self, shard: Shard) -> Lease:
        return claim(shard, self.clock())

    def note(self, lease: Lease) -> None:
        """They are noted already."""

    def restart(self) -> None:
        for unit in self._memory.units:
            if unit.holder is not None:
                unit.holder.die()
            unit.out = False
            unit.due = unit.state.next_attempt

    def kill(self, lease: Lease) -> None:
        assert isinstance(lease, memory.Lease)
        lease.die()

    def close(self) -> None:
        """Nothing is open."""


class SpoolWorld:
    """Where the processes of a queue in files live: this one plays them all."""

    def __init__(self, path: Path, deliverers: int = 1) -> None:
        self.clock = Clock()
        self.monotonic = Clock()
        self.events = Events()
        self.path = path
        self._deliverers = deliverers
        self._numbers = itertools.count(1)
        self._shards: list[UnitShard] = []
        self._leases: list[UnitLease] = []
        self.spool = self.open()
        self.queue: Queue = self.spool

    def open(self) -> Spool:
        """The queue as another process sees it."""
        return Spool(
            self.path,
            deliverers=self._deliverers,
            log=self.events,
            number=self._numbers.__next__,
            clock=self.clock,
            monotonic=self.monotonic,
        )

    def shard(self, index: int = 0) -> UnitShard:
        shard = self.spool.shard(index)
        self._shards.append(shard)
        return shard

    def claim(self, shard: Shard) -> Lease:
        lease = claim(shard, self.clock())
        self.note(lease)
        return lease

    def note(self, lease: Lease) -> None:
        assert isinstance(lease, UnitLease)
        self._leases.append(lease)

    def restart(self) -> None:
        self.close()
        self.queue = self.spool = self.open()

    def kill(self, lease: Lease) -> None:
        assert isinstance(lease, UnitLease)
        lease._grip.abandon()
        self._leases.remove(lease)

    def close(self) -> None:
        for lease in self._leases:
            if not lease.ended:
                lease._grip.abandon()
        self._leases.clear()
        for shard in self._shards:
            shard._inbox.close()
            shard._news.close()
        self._shards.clear()
        self.spool.close()


def step(shard: Shard) -> None:
    """Let a shard hear and do what there is now."""
    for _ in range(2):
        shard.hear(0)
    shard.keep_time(0)


def claim(shard: Shard, now: float) -> Lease:
    unit = shard.due(now)
    assert unit is not None, "no unit is due"
    lease = shard.claim(unit)
    assert lease is not None, "the unit cannot be claimed"
    return lease


def due_now(shard: Shard, now: float) -> list[Unit]:
    """All that is due, handed out; without waiting for news."""
    step(shard)
    units = []
    while (unit := shard.due(now)) is not None:
        units.append(unit)
    return units


def everything(queue: Queue) -> list[View]:
    return sorted(queue.views(Selection()), key=lambda view: (view.entry.id, view.entry.domain))


MakeWorld = Callable[..., World]
MakeSpool = Callable[..., SpoolWorld]


@pytest.fixture(params=["memory", "files"])
def make_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeWorld]:
    """Makes a world of each back end; `deliverers` of them."""
    worlds: list[World] = []

    def make(deliverers: int = 1) -> World:
        world: World = (
            MemoryWorld(deliverers)
            if request.param == "memory"
            else SpoolWorld(tmp_path / "queue", deliverers)
        )
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


@pytest.fixture
def make_spool(tmp_path: Path) -> Iterator[MakeSpool]:
    """Makes a world with a queue in files, for what only files have."""
    worlds: list[SpoolWorld] = []

    def make(path: Path = tmp_path / "queue", deliverers: int = 1) -> SpoolWorld:
        world = SpoolWorld(path, deliverers)
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def files(make_spool: MakeSpool) -> SpoolWorld:
    return make_spool()
