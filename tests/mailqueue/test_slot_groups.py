"""Group commit of what is written to the queue: who is served by which sync, or fails with it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial

import pytest

from pfsmtp.mailqueue.backend import Lease
from pfsmtp.mailqueue.segment import KINDS, GroupCommit
from pfsmtp.mailqueue.shard import BUSY_FOR
from pfsmtp.smtp.errors import TransientFailure
from tests.crowds import Crowd
from tests.mailqueue.conftest import (
    DEFERRED,
    DELIVERED,
    START,
    SpoolWorld,
    due_now,
    everything,
    put,
    step,
)
from tests.syscalls import HOLD, Border, Call, passes, until


def writers_of(group: GroupCommit, actions: Mapping[str, Callable[[], object]]) -> Crowd:
    """Threads that write to the same file, under a border that holds each sync."""
    return Crowd(
        actions,
        lambda: group.waiting,
        ("pwritev", "fdatasync"),
        lambda call: HOLD if call.name == "fdatasync" else None,
    )


def fail(writers: Crowd) -> Call:
    """The first sync fails, while the others wait for the next. Returns its call."""
    first = writers.first_in_sync()
    writers.judge = passes
    writers.border.let_go(first, errno.EIO)
    writers.end()
    return first


def group_of(files: SpoolWorld) -> GroupCommit:
    segments = files.spool._files.segments
    (segment,) = segments.existing(KINDS[0])
    return segments.group_commit(segment)


def putting(files: SpoolWorld) -> Crowd:
    """Four threads that put a message each, into one file."""
    put(files.queue, "before@example.org")
    return writers_of(
        group_of(files),
        {name: partial(put, files.queue, f"{name}@example.org") for name in "abcd"},
    )


def recipients(files: SpoolWorld) -> list[str]:
    """Of all that a process finds which has put none of it."""
    files.restart()
    found = [view.entry.envelope.recipients for view in everything(files.queue)]
    assert len(due_now(files.shard(), START)) == len(found)
    return sorted(each.mailbox.local_part for one in found for each in one)


def test_messages_written_at_the_same_moment_are_synced_once(files: SpoolWorld) -> None:
    writers = putting(files)
    writers.border.let_go(writers.first_in_sync())
    until(lambda: len(writers.border.held) == 1, "a second sync")
    writers.border.let_go(writers.border.held[0])
    writers.end()
    assert writers.failures == {}
    assert [call.name for call in writers.border.calls] == [
        *("pwritev", "fdatasync"),
        *("pwritev", "pwritev", "pwritev", "fdatasync"),
    ]
    assert recipients(files) == ["a", "b", "before", "c", "d"]


def test_no_message_is_acknowledged_before_the_sync_that_began_after_its_write(
    files: SpoolWorld,
) -> None:
    """Who writes while a sync runs is not served by it."""
    writers = putting(files)
    first = writers.first_in_sync()
    assert writers.ended == []
    writers.border.let_go(first)
    until(lambda: writers.ended == ["a"], "the end of the first")
    until(lambda: len(writers.border.held) == 1, "a second sync")
    assert group_of(files).waiting == 0  # all three are in the second
    assert writers.ended == ["a"]
    writers.border.let_go(writers.border.held[0])
    writers.end()
    assert sorted(writers.ended) == ["a", "b", "c", "d"]


def test_failed_sync_refuses_all_who_have_written_meanwhile_and_leaves_nothing_of_theirs(
    files: SpoolWorld,
) -> None:
    writers = putting(files)
    first = fail(writers)
    assert sorted(writers.failures) == ["a", "b", "c", "d"]
    for failure in writers.failures.values():
        assert isinstance(failure, TransientFailure)
        assert isinstance(failure.__cause__, OSError)
        assert failure.__cause__.errno == errno.EIO
    synced = [call.args[0] for call in writers.border.made("fdatasync")]
    assert synced.count(first.args[0]) == 1
    assert len(synced) == 1 + 4  # each wipes what it wrote
    assert recipients(files) == ["before"]


def test_failed_sync_refuses_who_has_yet_to_write_for_the_same_group(files: SpoolWorld) -> None:
    """The kernel reports a lost write once: to a second sync of the group all would be well."""
    put(files.queue, "before@example.org")
    group = group_of(files)
    with pytest.raises(OSError, match=r"Input/output"):
        Border(("fdatasync",), lambda call: errno.EIO).run(group.sync)
    assert group.failed
    border = Border(("fdatasync",))
    with pytest.raises(OSError, match=r"Input/output"):
        border.run(group.sync)
    assert border.calls == []


def test_message_after_a_failed_sync_is_taken_and_synced_by_another_description(
    files: SpoolWorld,
) -> None:
    writers = putting(files)
    failed = group_of(files)
    fail(writers)
    put(files.queue, "after@example.org")
    assert failed.failed
    assert not group_of(files).failed
    assert recipients(files) == ["after", "before"]


def test_outcome_that_the_sync_of_another_has_lost_stays_locked_and_is_recorded_later(
    files: SpoolWorld,
) -> None:
    for _ in range(3):
        put(files.queue, "a@example.org", "b@example.org")
    shard = files.shard()
    step(shard)
    leases: list[Lease] = [files.claim(shard) for _ in range(3)]
    locked = locks(files)
    assert len(locked) == 3

    writers = writers_of(
        group_of(files),
        {
            str(at): partial(lease.record, {0: DELIVERED, 1: DELIVERED})
            for at, lease in enumerate(leases)
        },
    )
    fail(writers)
    assert writers.failures == {}
    assert files.events.names == ["queue-write-failed"] * 3
    assert locks(files) == locked
    files.monotonic.now += BUSY_FOR
    border = Border(("fdatasync",))
    border.run(lambda: step(shard))
    assert len(border.calls) == 3
    assert len(files.events.lines) == 3
    assert locks(files) == []
    assert shard.waiting() == 0
    assert recipients(files) == []


def test_lease_goes_on_after_the_sync_of_a_message_has_failed(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org", "b@example.org")
    lease = files.claim(files.shard())
    writers = writers_of(group_of(files), {"put": partial(put, files.queue, "c@example.org")})
    fail(writers)
    lease.record({0: DELIVERED, 1: DEFERRED})
    lease.release(START + 300)
    assert files.events.lines == []
    files.restart()
    (view,) = everything(files.queue)
    assert [each.outcome for each in view.entry.addressees] == [DELIVERED, DEFERRED]


def locks(files: SpoolWorld) -> list[int]:
    """Where in the file somebody has a lock on a unit."""
    segments = files.spool._files.segments
    (segment,) = segments.existing(KINDS[0])
    return sorted(at for start, end in segments.locked(segment) for at in range(start, end))
