"""How deliverers hear of mail, and how they know that they may have missed some."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from pfsmtp import durable
from pfsmtp.mailqueue.backend import Unit
from pfsmtp.mailqueue.handover import (
    RECORD,
    Announcer,
    Hint,
    Inbox,
    encode,
    owner_of,
    tell_of_death,
)
from tests.mailqueue.conftest import START, MakeSpool, SpoolWorld, due_now, put, step
from tests.process.forked import Child
from tests.syscalls import Border, failing


@pytest.fixture
def directory(tmp_path: Path) -> durable.Directory:
    return durable.Directory(tmp_path)


def test_hint_arrives_as_it_was_told(directory: durable.Directory) -> None:
    inbox, announcer = Inbox(directory, 0), Announcer(directory, 1)
    hints = [
        Hint(1, 2, "example.org"),
        Hint((1 << 63) - 1, (1 << 64) - 1, None),
        Hint(3, 4, "ünïcode.example"),
        Hint(5, 6, "d" * (RECORD - 17)),
    ]
    for hint in hints:
        assert announcer.tell(0, encode(hint.place, hint.id, hint.domain))
    assert list(inbox.read()) == hints
    assert list(inbox.read()) == []
    assert not inbox.overflowed
    inbox.close()
    announcer.close()


def test_domain_too_long_for_a_record_is_left_out(directory: durable.Directory) -> None:
    inbox, announcer = Inbox(directory, 0), Announcer(directory, 1)
    announcer.tell(0, encode(1, 2, "d" * 250))
    assert list(inbox.read()) == [Hint(1, 2, None)]
    inbox.close()
    announcer.close()


def test_each_deliverer_is_told_of_its_domains(directory: durable.Directory) -> None:
    inboxes = [Inbox(directory, index) for index in range(3)]
    announcer = Announcer(directory, 3)
    names = [f"domain{number}.example" for number in range(30)]
    for name in names:
        assert announcer.tell_owner(name, encode(1, 2, name))
    for index, inbox in enumerate(inboxes):
        assert [hint.domain for hint in inbox.read()] == [
            name for name in names if owner_of(name, 3) == index
        ]
        inbox.close()
    announcer.close()


def test_hints_wait_for_the_deliverer_that_comes_next(directory: durable.Directory) -> None:
    announcer = Announcer(directory, 1)
    assert announcer.tell(0, encode(1, 2))
    inbox = Inbox(directory, 0)
    assert list(inbox.read()) == [Hint(1, 2, None)]
    inbox.close()
    assert announcer.tell(0, encode(3, 4))
    again = Inbox(directory, 0)
    assert list(again.read()) == [Hint(3, 4, None)]
    again.close()
    announcer.close()


def test_telling_that_fails_undoes_nothing(directory: durable.Directory) -> None:
    announcer = Announcer(directory, 1)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, announcer.pipes[0])
    os.close(full)
    assert not announcer.tell(0, encode(1, 2))
    announcer.close()


def test_telling_never_waits_whether_or_not_anybody_reads(directory: durable.Directory) -> None:
    announcer = Announcer(directory, 2)
    told = 0
    while announcer.tell(1, encode(told, 0)):
        told += 1
    announcer.tell_all(encode(1, 2))
    inbox = Inbox(directory, 1)
    assert len(list(inbox.read())) == told
    inbox.close()
    announcer.close()


def test_what_is_no_fifo_is_refused(directory: durable.Directory, tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"")
    (tmp_path / "1").symlink_to(tmp_path / "2")
    for index in range(2):
        with pytest.raises(OSError, match=r"not a FIFO|symbolic link"):
            Inbox(directory, index)
    with pytest.raises(OSError, match="not a FIFO"):
        Announcer(directory, 1)


def test_full_pipe_is_noticed_by_its_reader(directory: durable.Directory) -> None:
    inbox, announcer = Inbox(directory, 0), Announcer(directory, 1)
    told = 0
    while announcer.tell(0, encode(told, 0)):
        told += 1
    assert told >= 16
    assert [hint.place for hint in inbox.read()] == list(range(told))
    assert inbox.overflowed
    inbox.overflowed = False
    assert announcer.tell(0, encode(1, 2))
    assert len(list(inbox.read())) == 1
    assert not inbox.overflowed
    inbox.close()
    announcer.close()


def test_pipe_that_was_all_but_full_lost_nothing(directory: durable.Directory) -> None:
    inbox, announcer = Inbox(directory, 0), Announcer(directory, 1)
    told = 0
    while announcer.tell(0, encode(told, 0)):
        told += 1
    list(inbox.read())
    inbox.overflowed = False
    for _ in range(told - 1):
        announcer.tell(0, encode(1, 2))
    assert len(list(inbox.read())) == told - 1
    assert not inbox.overflowed
    inbox.close()
    announcer.close()


def test_what_was_lost_in_a_full_pipe_is_found(files: SpoolWorld) -> None:
    shard = files.shard()
    ids = set()
    while files.spool._files.announcer.tell(0, encode(0, 0)):
        pass
    for _ in range(10):
        ids.add(put(files.queue, "a@example.org"))
    found: list[Unit] = []
    while len(found) < 10:
        found += due_now(shard, START)
    assert len(found) == 10
    assert len(ids) == 10


def test_what_was_put_by_who_was_killed_is_looked_for_at_once(make_spool: MakeSpool) -> None:
    files = make_spool(deliverers=2)
    shards = [files.shard(index) for index in range(2)]
    announcer = files.spool._files.announcer
    pipes, announcer.pipes = announcer.pipes, [os.open("/dev/null", os.O_WRONLY)] * 2
    domains = [f"domain{number}.example" for number in range(10)]
    for domain in domains:
        put(files.queue, f"a@{domain}")
    os.close(announcer.pipes[0])
    announcer.pipes = pipes
    assert [due_now(shard, START) for shard in shards] == [[], []]
    Child(lambda: tell_of_death(files.path)).result()
    found: list[str] = []
    deadline = time.monotonic() + 10
    while len(found) < len(domains) and time.monotonic() < deadline:
        found += [unit.domain for shard in shards for unit in due_now(shard, START)]
    assert sorted(found) == domains


def test_news_of_a_death_is_no_hint_and_stays_in_no_fifo(
    directory: durable.Directory, tmp_path: Path
) -> None:
    (tmp_path / "handover").mkdir()
    handover = durable.Directory("handover", parent=directory)
    Announcer(handover, 1).close()
    tell_of_death(tmp_path)  # nobody is there
    inbox, announcer = Inbox(handover, 0), Announcer(handover, 1)
    assert list(inbox.read()) == []
    assert not inbox.overflowed
    announcer.tell(0, encode(1, 2))
    tell_of_death(tmp_path)
    announcer.tell(0, encode(3, 4))
    assert list(inbox.read()) == [Hint(1, 2, None), Hint(3, 4, None)]
    assert inbox.overflowed
    inbox.close()
    announcer.close()


def test_what_was_put_while_no_deliverer_ran_is_found(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@one.org")
    files.restart()
    put(files.queue, "a@two.org")
    shard = files.shard()
    put(files.queue, "a@three.org")
    assert sorted(unit.domain for unit in due_now(shard, START)) == [
        "one.org",
        "three.org",
        "two.org",
    ]


def test_unit_that_is_told_and_read_is_handed_out_once(files: SpoolWorld) -> None:
    files.shard()  # keeps the FIFO; reads nothing
    put(files.queue, "a@example.org")
    shard = files.shard()
    assert len(due_now(shard, START)) == 1
    assert due_now(shard, START) == []


def test_units_move_when_there_are_other_deliverers_than_when_they_were_told(
    make_spool: MakeSpool,
) -> None:
    old, new = make_spool(deliverers=1), make_spool(deliverers=2)
    shards = [new.shard(index) for index in range(2)]
    for number in range(20):
        put(old.queue, f"a@domain{number}.example")
    found: list[list[str]] = [[], []]
    for _ in range(2):
        for index, shard in enumerate(shards):
            found[index] += [unit.domain for unit in due_now(shard, START)]
    assert len(found[0]) + len(found[1]) == 20
    for index in range(2):
        assert all(owner_of(domain, 2) == index for domain in found[index])


def test_next_generation_takes_over_what_the_old_one_has_not_tried(files: SpoolWorld) -> None:
    old = files.shard()
    put(files.queue, "a@zero.org")
    step(old)
    lease = files.claim(old)
    new = files.shard()
    put(files.queue, "a@one.org")
    step(old)  # the old one has heard of it, and not the new one
    old.close()
    lease.release(START + 10)
    files.clock.now += 10
    domains: list[str] = []
    deadline = time.monotonic() + 10
    while len(domains) < 2 and time.monotonic() < deadline:
        domains += [unit.domain for unit in due_now(new, files.clock())]
    assert sorted(domains) == ["one.org", "zero.org"]


def test_deliverer_hears_of_what_another_process_puts(files: SpoolWorld) -> None:
    shard = files.shard()
    began = time.monotonic()
    child = Child(lambda: put(files.open(), "a@example.org"))
    while (unit := shard.due(START)) is None:
        shard.hear(10)
    assert unit.domain == "example.org"
    assert time.monotonic() - began < 5
    assert isinstance(child.result(), str)


def test_news_that_cannot_be_read_is_found_in_the_queue(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    Border(("readv",), failing("readv", errno.EIO)).run(lambda: shard.hear(0))
    assert files.events.names == ["queue-trouble"]
    assert shard.due(START) is None
    shard.keep_time(0)
    assert shard.due(START) is not None


def test_waiting_for_news_uses_no_cpu(files: SpoolWorld) -> None:
    shard = files.shard()
    before = os.times()
    for _ in range(3):
        shard.hear(0.1)
        shard.keep_time(0.1)
    after = os.times()
    assert after.user + after.system - before.user - before.system < 0.1
