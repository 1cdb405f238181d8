"""What a deliverer records when the disk does not take it, and when others are at the unit."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from pfsmtp.mailqueue.entry import Condition, Selection, Wish
from pfsmtp.mailqueue.shard import BUSY_FOR, UnitShard
from pfsmtp.smtp.errors import TransientFailure
from tests.mailqueue.conftest import (
    DEFERRED,
    DELIVERED,
    FAILED,
    START,
    SpoolWorld,
    due_now,
    envelope,
    everything,
    put,
    step,
)
from tests.syscalls import Border, failing

BOUNCE = envelope("sender@example.net", sender=None)
WRITING = ("pwritev", "fdatasync")  # what makes an outcome durable


def with_broken_disk(action: Callable[[], object], *, call: str = "pwritev") -> None:
    """Do it while no write reaches the disk."""
    Border((call,), failing(call, errno.EIO)).run(action)


def test_delivery_that_could_not_be_recorded_is_recorded_later_and_not_done_again(
    files: SpoolWorld,
) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    lease = files.claim(shard)
    with_broken_disk(lambda: lease.record({0: DELIVERED}))
    assert lease.ended
    assert files.events.names == ["queue-write-failed"]
    # It is neither given out again, nor free to others, whatever the operator says.
    files.queue.carry_out(Wish.RETRY, Selection())
    assert due_now(shard, START + 1e6) == []
    assert [view.condition for view in everything(files.queue)] == [Condition.ACTIVE]
    other = files.shard()
    (unit,) = due_now(other, START)
    assert other.claim(unit) is None
    files.monotonic.now += BUSY_FOR
    step(shard)
    assert everything(files.queue) == []
    assert shard.waiting() == 0


def test_delivery_that_could_not_be_recorded_is_recorded_before_the_deliverer_leaves(
    files: SpoolWorld,
) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    lease = files.claim(shard)
    shard.close()
    with_broken_disk(lambda: lease.record({0: DELIVERED}))
    shard.finish()
    assert everything(files.queue) == []


@pytest.mark.parametrize("call", WRITING)
def test_disk_that_stays_broken_is_tried_again_and_again(files: SpoolWorld, call: str) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    lease = files.claim(shard)
    with_broken_disk(lambda: lease.record({0: DELIVERED}), call=call)
    for _ in range(3):
        files.monotonic.now += BUSY_FOR
        with_broken_disk(lambda: step(shard), call=call)
    assert files.events.names == ["queue-write-failed"] * 4
    files.monotonic.now += BUSY_FOR
    step(shard)
    assert len(files.events.lines) == 4
    assert everything(files.queue) == []


@pytest.mark.parametrize("call", WRITING)
def test_outcome_that_could_not_be_recorded_goes_with_the_next(
    files: SpoolWorld, call: str
) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org", "b@example.org")
    step(shard)
    lease = files.claim(shard)
    with_broken_disk(lambda: lease.record({0: DELIVERED}), call=call)
    assert not lease.ended
    lease.record({1: DEFERRED})
    lease.release(START + 300)
    assert files.events.names == ["queue-write-failed"]
    files.restart()
    (view,) = everything(files.queue)
    assert [each.outcome for each in view.entry.addressees] == [DELIVERED, DEFERRED]


@pytest.mark.parametrize("call", WRITING)
@pytest.mark.parametrize("write", range(4))
def test_notice_that_the_disk_does_not_take_is_made_once_in_the_end(
    files: SpoolWorld, write: int, call: str
) -> None:
    """At each durable write of a notice in turn."""
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    lease = files.claim(shard)
    lease.record({0: FAILED}, owed={0})
    intake = lease.report(BOUNCE, {0})
    intake.write(b"notice")
    writes = iter(range(10))
    border = Border((call,), lambda _: errno.EIO if next(writes) == write else None)
    try:
        border.run(intake.commit)
    except TransientFailure:
        lease.release(START)
    while due := due_now(shard, START):
        for unit in due:
            again = shard.claim(unit)
            if again is None:
                continue
            files.note(again)
            if again.entry.domain == "example.org":
                again.report(BOUNCE, {0}).commit()
    # A notice that was not let go is, when the queue is read.
    files.restart()
    shard = files.shard()
    assert [view.entry.domain for view in everything(files.queue)] == ["example.net"]
    assert [unit.domain for unit in due_now(shard, START)] == ["example.net"]


def test_unit_that_another_process_has_is_looked_at_again_a_little_later(
    files: SpoolWorld,
) -> None:
    put(files.queue, "a@example.org")
    old, new = files.shard(), files.shard()
    lease = files.claim(old)
    (unit,) = due_now(new, START)
    assert new.claim(unit) is None
    assert due_now(new, START + BUSY_FOR - 1) == []
    lease.record({0: DEFERRED})
    lease.release(START + 300)
    files.clock.now = START + BUSY_FOR
    (unit,) = due_now(new, files.clock())
    assert new.claim(unit) is None
    # What the other has recorded holds.
    assert due_now(new, START + 299) == []
    files.clock.now = START + 300
    (unit,) = due_now(new, START + 300)
    again = new.claim(unit)
    assert again is not None
    files.note(again)
    assert again.entry.attempts == 1


def test_unit_that_another_process_has_finished_is_forgotten(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org")
    old, new = files.shard(), files.shard()
    (unit,) = due_now(new, START)
    files.claim(old).record({0: DELIVERED})
    assert new.claim(unit) is None
    assert new.waiting() == 0


def test_unit_whose_slot_holds_another_message_by_now_is_forgotten(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org")
    old, new = files.shard(), files.shard()
    (unit,) = due_now(new, START)
    files.claim(old).record({0: DELIVERED})
    files.restart()
    put(files.queue, "b@example.org")
    shard: UnitShard = files.shard()
    assert shard.claim(unit) is None
    assert [each.domain for each in due_now(shard, START)] == ["example.org"]


def test_reading_that_fails_is_tried_again(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    (unit,) = due_now(shard, START)
    border = Border(("pread64",), failing("pread64", errno.EIO))
    assert border.run(lambda: shard.claim(unit)) is None
    assert files.events.names == ["queue-trouble"]
    assert due_now(shard, START + 10) == []
    files.clock.now = START + 60
    step(shard)
    assert files.claim(shard).entry.domain == "example.org"


def test_order_of_system_calls_for_an_attempt(files: SpoolWorld) -> None:
    """Lock, read; write, sync, unlock. Nothing is opened."""
    shard = files.shard()
    for _ in range(2):
        put(files.queue, "a@example.org")
    first, second = due_now(shard, START)
    lease = shard.claim(first)
    assert lease is not None
    lease.record({0: DELIVERED})

    def attempt() -> None:
        lease = shard.claim(second)
        assert lease is not None
        lease.record({0: DELIVERED})

    border = Border(("fcntl", "openat", "pread64", "pwritev", "fdatasync", "fsync", "unlinkat"))
    border.run(attempt)
    names = [call.name for call in border.calls]
    assert names == ["fcntl", "pread64", "pwritev", "fdatasync", "fcntl"]
