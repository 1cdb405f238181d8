"""The queue in files does what the queue in memory does, whatever is done to both.

Random histories of puts, attempts, notices, wishes and crashes are played to both; after each step
the operator must see the same of both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from pfsmtp.mailqueue.backend import Lease, Shard
from pfsmtp.mailqueue.entry import Condition, Selection, View, Wish
from tests.mailqueue.conftest import (
    DEFERRED,
    DELIVERED,
    FAILED,
    MemoryWorld,
    SpoolWorld,
    World,
    envelope,
    step,
)

Result = TypeVar("Result")

DOMAINS = ("one.org", "two.org", "three.org")
OUTCOMES = {"delivered": DELIVERED, "deferred": DEFERRED, "failed": FAILED}

domains = st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=4)
outcomes = st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=4, max_size=4)
picks = st.integers(0, 7)


class TwoQueues(RuleBasedStateMachine):
    """The same history in two worlds. Leases are in step: each is of the same unit in both."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._worlds: tuple[World, World] = (
            MemoryWorld(1),
            SpoolWorld(Path(self._directory.name) / "queue"),
        )
        self._shards: list[Shard] = [world.shard() for world in self._worlds]
        self._leases: list[tuple[Lease, Lease]] = []
        self._ids: list[tuple[str, str]] = []

    def teardown(self) -> None:
        for world in self._worlds:
            world.close()
        self._directory.cleanup()

    def _both(self, action: Callable[[World, Shard], Result]) -> tuple[Result, Result]:
        first, second = (
            action(world, shard) for world, shard in zip(self._worlds, self._shards, strict=True)
        )
        return first, second

    def _lease(self, pick: int) -> tuple[Lease, Lease] | None:
        self._leases = [pair for pair in self._leases if not pair[0].ended]
        assert not any(pair[1].ended for pair in self._leases)
        return self._leases[pick % len(self._leases)] if self._leases else None

    @rule(domains=domains)
    def put(self, domains: list[str]) -> None:
        to = [f"user{number}@{domain}" for number, domain in enumerate(domains)]

        def action(world: World, shard: Shard) -> str:
            intake = world.queue.begin(envelope(*to))
            intake.write(b"message %d\r\n" % len(self._ids))
            id = intake.commit().id
            step(shard)
            return id

        self._ids.append(self._both(action))
        self._tick()

    @rule()
    def claim(self) -> None:
        def action(world: World, shard: Shard) -> Lease | None:
            step(shard)
            unit = shard.due(world.clock())
            lease = shard.claim(unit) if unit is not None else None
            if lease is not None:
                world.note(lease)
            return lease

        first, second = self._both(action)
        if first is not None:
            assert second is not None
            assert seen(first) == seen(second)
            self._leases.append((first, second))
        else:
            assert second is None

    @rule(pick=picks, outcomes=outcomes, owed=st.booleans())
    def record(self, pick: int, outcomes: list[str], owed: bool) -> None:
        for lease in self._lease(pick) or ():
            numbers = range(len(lease.entry.addressees))
            said = {
                number: OUTCOMES[outcomes[number]]
                for number in numbers
                if lease.entry.addressees[number].pending
            }
            failed = {number for number, outcome in said.items() if outcome is FAILED}
            lease.record(said, owed=failed if owed else ())

    @rule(pick=picks)
    def report(self, pick: int) -> None:
        for lease in self._lease(pick) or ():
            owed = [number for number, each in enumerate(lease.entry.addressees) if each.owed]
            intake = lease.report(envelope("sender@example.net", sender=None), owed)
            intake.write(b"notice\r\n")
            intake.commit()
        self._tick()

    @rule(pick=picks, after=st.sampled_from([0, 1, 5]))
    def release(self, pick: int, after: int) -> None:
        pair = self._lease(pick)
        for lease, world in zip(pair or (), self._worlds, strict=False):
            lease.release(world.clock() + after, reason="because")
        self._tick()

    @rule(wish=st.sampled_from(list(Wish)), pick=picks, domain=st.sampled_from(DOMAINS))
    def wish(self, wish: Wish, pick: int, domain: str) -> None:
        if self._ids:
            done = [
                world.queue.carry_out(wish, Selection(id=id, domain=domain))
                for world, id in zip(
                    self._worlds, self._ids[-1 - pick % len(self._ids)], strict=True
                )
            ]
            assert done[0] == done[1]
            self._both(lambda world, shard: step(shard))
            self._tick()

    @rule(pick=picks)
    def kill(self, pick: int) -> None:
        pair = self._lease(pick)
        if pair is not None:
            self._leases.remove(pair)
            for lease, world in zip(pair, self._worlds, strict=True):
                world.kill(lease)
            # What the dead deliverer had in memory, its successor reads.
            self.restart()

    @rule()
    def restart(self) -> None:
        self._both(lambda world, _: world.restart())
        self._shards = [world.shard() for world in self._worlds]
        self._leases.clear()

    def _tick(self) -> None:
        """No two units are due at the same moment, whose order would be anybody's."""
        self._both(lambda world, _: setattr(world.clock, "now", world.clock.now + 0.001))

    @rule()
    def pass_time(self) -> None:
        self._both(lambda world, _: setattr(world.clock, "now", world.clock.now + 400))

    @invariant()
    def looks_the_same(self) -> None:
        first, second = self._both(lambda world, _: shown(list(world.queue.views(Selection()))))
        assert first == second


def seen(lease: Lease) -> object:
    """What a deliverer sees, without what differs between back ends."""
    return structs.replace(lease.entry, id=""), b"".join(lease.body.pieces())


def shown(views: list[View]) -> list[str]:
    """What the operator sees, likewise; in some order."""
    lines = []
    for view in views:
        entry = structs.replace(view.entry, id="")
        active = view.condition is Condition.ACTIVE
        # While an attempt is under way, what is not final need not be on disk yet.
        lines.append(repr(("active", entry.domain) if active else replace(view, entry=entry)))
    return sorted(lines)


TestTwoQueues = TwoQueues.TestCase
TestTwoQueues.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
