"""A process is killed before each system call in turn that changes something on disk.

Whatever was acknowledged is there afterwards, and whole; what was recorded stays recorded; a
notice is made once. This is the table of states in `spool`, played through.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pfsmtp.mailqueue.backend import Lease
from pfsmtp.mailqueue.segment import KINDS
from tests.mailqueue.conftest import (
    DEFERRED,
    DELIVERED,
    FAILED,
    MESSAGE,
    SpoolWorld,
    envelope,
    everything,
    put,
)
from tests.process.forked import Child
from tests.syscalls import Border, Call

CALLS = (
    *("openat", "writev", "fsync", "pwritev", "fdatasync"),
    *("renameat2", "unlinkat", "mkdirat"),
)
LARGE = MESSAGE + b"x" * 300_000
BOUNCE = envelope("sender@example.net", sender=None)

Scenario = Callable[[SpoolWorld], object]


def killed_at(path: Path, at: int, scenario: Scenario) -> bool:
    """Play the scenario in a process that is killed before its call number `at`; whether it was."""

    def play() -> None:
        world = SpoolWorld(path)
        numbers = itertools.count()

        def judge(call: Call) -> None:
            if next(numbers) == at:
                os.kill(os.getpid(), signal.SIGKILL)

        Border(CALLS, judge).run(lambda: scenario(world))

    status, _ = Child(play).end()
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.fixture
def crashes(tmp_path: Path) -> Iterator[Callable[..., Iterator[tuple[SpoolWorld, bool]]]]:
    """Plays a scenario with a crash at each point; gives what the next process finds."""
    worlds: list[SpoolWorld] = []

    def play(
        scenario: Scenario, before: Scenario = lambda world: None
    ) -> Iterator[tuple[SpoolWorld, bool]]:
        for at in itertools.count():
            path = tmp_path / f"queue{at}"
            world = SpoolWorld(path)
            before(world)
            world.close()
            crashed = killed_at(path, at, scenario)
            worlds.append(SpoolWorld(path))
            yield worlds[-1], crashed
            if not crashed:
                assert at > 0
                return

    yield play
    for world in worlds:
        world.close()


Crashes = Callable[..., Iterator[tuple[SpoolWorld, bool]]]


def leases(world: SpoolWorld) -> Iterator[Lease]:
    """Claim all that is due, as a new deliverer does."""
    shard = world.shard()
    while (unit := shard.due(world.clock())) is not None:
        lease = shard.claim(unit)
        if lease is not None:
            world.note(lease)
            yield lease


def prepared(world: SpoolWorld) -> None:
    """A message for three recipients waits."""
    put(world.queue, "a@example.org", "b@example.org", "c@example.org")


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("domains", [("one.org",), ("one.org", "two.org", "three.org")])
def test_message_is_put_whole_or_not_at_all(
    crashes: Crashes, message: bytes, domains: tuple[str, ...]
) -> None:
    to = [f"user@{domain}" for domain in domains]
    for world, crashed in crashes(lambda world: put(world.queue, *to, message=message)):
        found = list(leases(world))
        assert len(found) in ((0, len(domains)) if crashed else (len(domains),))
        assert all(b"".join(lease.body.pieces()) == message for lease in found)
        assert world.events.lines == []


def test_message_that_was_put_before_is_not_harmed(crashes: Crashes) -> None:
    """Another message is put, into the slot next to it, and into one that was finished."""

    def before(world: SpoolWorld) -> None:
        put(world.queue, "done@example.org")
        for lease in leases(world):
            lease.record({0: DELIVERED})
        put(world.queue, "kept@example.org")

    def scenario(world: SpoolWorld) -> None:
        for _ in range(KINDS[0].count):
            put(world.queue, "new@example.org")

    # Every call is too many: a handful of the first, where files are adopted and made.
    for world, _ in itertools.islice(crashes(scenario, before), 12):
        found = [str(lease.entry.envelope.recipients[0].mailbox) for lease in leases(world)]
        assert found.count("kept@example.org") == 1
        assert found.count("done@example.org") == 0
        assert world.events.lines == []


def test_outcome_is_recorded_or_not(crashes: Crashes) -> None:
    def scenario(world: SpoolWorld) -> None:
        (lease,) = leases(world)
        lease.record({0: DELIVERED})
        lease.record({1: FAILED, 2: DEFERRED})
        lease.release(world.clock() + 300)

    seen = set()
    for world, crashed in crashes(scenario, prepared):
        (view,) = everything(world.queue)
        outcomes = tuple(each.outcome for each in view.entry.addressees)
        seen.add(outcomes)
        assert view.entry.attempts == (0 if outcomes[0] is None else 1)
        if not crashed:
            assert outcomes == (DELIVERED, FAILED, DEFERRED)
            assert view.next_attempt == world.clock() + 300
    none = (None, None, None)
    assert seen >= {none, (DELIVERED, None, None), (DELIVERED, FAILED, DEFERRED)}


def test_finished_unit_is_gone_or_as_before(crashes: Crashes) -> None:
    def scenario(world: SpoolWorld) -> None:
        for lease in leases(world):
            lease.record({0: DELIVERED})

    def before(world: SpoolWorld) -> None:
        put(world.queue, "a@one.org", "a@two.org", message=LARGE)

    for world, crashed in crashes(scenario, before):
        found = list(leases(world))
        assert len(found) <= (2 if crashed else 0)
        assert all(b"".join(lease.body.pieces()) == LARGE for lease in found)
        for lease in found:
            lease.record({0: DELIVERED})
        assert everything(world.queue) == []
        assert world.events.lines == []


def tell(lease: Lease) -> None:
    """Do what a deliverer does with a unit that failed: record it, then tell the sender."""
    if any(each.pending for each in lease.entry.addressees):
        lease.record({0: FAILED, 1: DELIVERED, 2: FAILED}, owed={0, 2})
    owed = [number for number, each in enumerate(lease.entry.addressees) if each.owed]
    intake = lease.report(BOUNCE, owed)
    intake.write(b"Subject: failed\r\n\r\n" + b"%d\r\n" * len(owed) % tuple(owed))
    intake.commit()


def failing(world: SpoolWorld) -> None:
    """A deliverer goes on until nothing is left but notices, which it collects."""
    for lease in leases(world):
        if lease.entry.domain == "example.org":
            tell(lease)


def notices(world: SpoolWorld) -> list[bytes]:
    """Let a deliverer end what another began; returns the notices that go out."""
    found = []
    for _ in range(2):
        for lease in leases(world):
            if lease.entry.domain == "example.org":
                tell(lease)
            else:
                found.append(b"".join(lease.body.pieces()))
                lease.record({0: DELIVERED})
    assert everything(world.queue) == []
    return found


def test_sender_is_told_exactly_once(crashes: Crashes) -> None:
    for world, _ in crashes(failing, prepared):
        assert notices(world) == [b"Subject: failed\r\n\r\n0\r\n2\r\n"]


def test_sender_is_told_exactly_once_though_the_next_deliverer_dies_too(tmp_path: Path) -> None:
    for first in itertools.count(step=2):
        crashed = False
        for second in itertools.count():
            path = tmp_path / f"queue{first}-{second}"
            world = SpoolWorld(path)
            prepared(world)
            world.close()
            crashed = killed_at(path, first, failing)
            crashed_again = killed_at(path, second, failing)
            world = SpoolWorld(path)
            assert notices(world) == [b"Subject: failed\r\n\r\n0\r\n2\r\n"]
            world.close()
            if not crashed_again:
                break
        if not crashed:
            break
    assert first >= 5


def test_delay_is_reported_exactly_once(crashes: Crashes) -> None:
    def report_delay(world: SpoolWorld) -> None:
        for lease in leases(world):
            if lease.entry.domain == "example.org":
                if not lease.entry.delay_reported:
                    intake = lease.report(BOUNCE)
                    intake.write(b"delayed")
                    intake.commit()
                lease.release(world.clock() + 300)

    for world, _ in crashes(report_delay, prepared):
        report_delay(world)
        domains = [view.entry.domain for view in everything(world.queue)]
        assert sorted(domains) == ["example.net", "example.org"]


def test_damaged_slot_is_set_aside_or_damaged_still(crashes: Crashes) -> None:
    def before(world: SpoolWorld) -> None:
        put(world.queue, "a@example.org", message=LARGE)
        put(world.queue, "b@example.org", message=LARGE)
        (body, _) = sorted((world.path / "bodies").iterdir())
        body.write_bytes(b"?" + LARGE[1:])

    for world, _ in crashes(lambda world: list(leases(world)), before):
        (lease,) = leases(world)
        assert str(lease.entry.envelope.recipients[0].mailbox) == "b@example.org"
        damaged = sorted(path.name for path in (world.path / "damaged").iterdir())
        assert sum(name.endswith("-body") for name in damaged) == 1
        assert len(damaged) in (2, 3)
        assert len(everything(world.queue)) == 1
