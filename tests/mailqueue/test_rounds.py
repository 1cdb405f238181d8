"""Going round the queue: when, how much at a time, and what it brings."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pfsmtp.mailqueue.entry import Selection, Wish
from pfsmtp.mailqueue.rounds import ROUND_EVERY
from pfsmtp.mailqueue.segment import KINDS
from pfsmtp.mailqueue.spool import Spool
from tests.mailqueue.conftest import START, SpoolWorld, due_now, put, step
from tests.syscalls import Border, failing

COUNT = KINDS[0].count


@contextmanager
def untold(files: SpoolWorld) -> Iterator[Spool]:
    """The queue as a process sees it whose hints are all lost."""
    other = files.open()
    announcer = other._files.announcer
    pipes, announcer.pipes = announcer.pipes, [os.open("/dev/null", os.O_WRONLY)]
    yield other
    os.close(announcer.pipes[0])
    announcer.pipes = pipes
    other.close()


def put_untold(files: SpoolWorld, recipient: str, count: int = 1) -> None:
    with untold(files) as queue:
        for _ in range(count):
            put(queue, recipient)


def test_unit_that_nobody_told_of_is_found_by_the_next_round(files: SpoolWorld) -> None:
    shard = files.shard()
    put_untold(files, "a@example.org")
    files.monotonic.now += ROUND_EVERY - 1
    assert due_now(shard, START) == []
    files.monotonic.now += 1
    assert len(due_now(shard, START)) == 1
    put_untold(files, "b@example.org")
    assert due_now(shard, START) == []
    files.monotonic.now += ROUND_EVERY
    assert len(due_now(shard, START)) == 1


def test_round_is_gone_a_file_at_a_time(files: SpoolWorld) -> None:
    put_untold(files, "a@example.org", 3 * COUNT)
    shard = files.shard()
    assert shard.waiting() == 3 * COUNT
    with untold(files) as queue:
        queue.carry_out(Wish.HOLD, Selection())
    files.monotonic.now += ROUND_EVERY
    seen = {shard.waiting()}
    while shard.waiting():
        step(shard)
        seen.add(shard.waiting())
    assert len(seen) == 4


def test_round_that_is_wanted_while_one_is_under_way_comes_after_it(files: SpoolWorld) -> None:
    """It is not begun anew again and again, while there is more news than can be told."""
    put_untold(files, "a@example.org", 3 * COUNT)
    shard = files.shard()
    files.monotonic.now += ROUND_EVERY
    for number in range(20):
        shard._inbox.overflowed = True
        if number == 5:
            put_untold(files, "late@example.org")
        step(shard)
    assert shard.waiting() == 3 * COUNT + 1


def test_round_that_fails_is_gone_again(files: SpoolWorld) -> None:
    shard = files.shard()
    put_untold(files, "a@example.org")
    files.monotonic.now += ROUND_EVERY
    Border(("openat",), failing("openat", errno.EMFILE)).run(lambda: step(shard))
    assert set(files.events.names) == {"queue-trouble"}
    assert due_now(shard, START) == []
    files.monotonic.now += ROUND_EVERY
    assert len(due_now(shard, START)) == 1


def test_unit_that_went_away_untold_leaves_the_agenda(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@one.org")
    put(files.queue, "a@two.org")
    step(shard)
    with untold(files) as queue:
        queue.carry_out(Wish.DELETE, Selection(domain="one.org"))
    assert shard.waiting() == 2
    files.monotonic.now += ROUND_EVERY
    step(shard)
    assert [unit.domain for unit in due_now(shard, START)] == ["two.org"]
    assert shard.waiting() == 1
