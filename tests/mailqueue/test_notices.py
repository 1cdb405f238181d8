"""A notice and the unit it tells about, when the process in between is gone."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest

from pfsmtp.mailqueue.backend import Lease
from pfsmtp.mailqueue.entry import Selection, Wish
from pfsmtp.smtp.errors import TransientFailure
from tests.mailqueue.conftest import (
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
from tests.syscalls import Border

BOUNCE = envelope("sender@example.net", sender=None)
DRAFT, PUT, TOLD, LET_GO = range(4)  # the durable writes of a notice, in order


def die_before(files: SpoolWorld, step: int, *, body: bytes = b"notice") -> None:
    """A message fails, and its deliverer is killed before it has taken this step of the notice."""
    put(files.queue, "a@example.org")
    lease = files.claim(files.shard())
    lease.record({0: FAILED}, owed={0})
    intake = lease.report(BOUNCE, {0})
    intake.write(body)
    numbers = itertools.count()
    border = Border(("pwritev",), lambda call: errno.EIO if next(numbers) >= step else None)
    if step < LET_GO:
        with pytest.raises(TransientFailure):
            border.run(intake.commit)
        files.kill(lease)
    else:
        border.run(intake.commit)
    files.restart()


def domains(files: SpoolWorld) -> list[str]:
    return [view.entry.domain for view in everything(files.queue)]


def report_owed(lease: Lease) -> int:
    """Do what a deliverer does first: tell what is still owed; returns of how many."""
    owed = [number for number, each in enumerate(lease.entry.addressees) if each.owed]
    if owed:
        intake = lease.report(BOUNCE, owed)
        intake.write(b"notice")
        intake.commit()
    return len(owed)


@pytest.mark.parametrize("step", [DRAFT, PUT])
def test_notice_that_was_not_put_is_still_owed(files: SpoolWorld, step: int) -> None:
    die_before(files, step)
    assert domains(files) == ["example.org"]
    lease = files.claim(files.shard())
    assert report_owed(lease) == 1
    assert domains(files) == ["example.net"]


def test_notice_that_was_put_counts_once_its_unit_has_been_claimed(files: SpoolWorld) -> None:
    die_before(files, TOLD)
    shard = files.shard()
    assert domains(files) == ["example.org"]
    (unit,) = due_now(shard, START)
    assert shard.claim(unit) is None
    assert domains(files) == ["example.net"]
    assert [unit.domain for unit in due_now(shard, START)] == ["example.net"]


@pytest.mark.parametrize("body", [b"notice", bytes(range(256)) * 512, bytes(2 << 20)])
def test_notice_that_was_torn_is_still_owed(files: SpoolWorld, body: bytes) -> None:
    """A power cut may leave of a write that was never safe what was at its beginning."""
    die_before(files, TOLD, body=body)
    torn = [path for path in files.path.rglob("*") if path.is_file() and tear(path, body)]
    assert len(torn) == 1
    lease = files.claim(files.shard())
    assert report_owed(lease) == 1
    assert "example.net" in domains(files)


def tear(path: Path, body: bytes) -> bool:
    """Lose the end of a body that is in this file; whether it was."""
    octets = path.read_bytes()
    at = octets.find(body)
    if at < 0:
        return False
    end = at + len(body)
    with path.open("r+b") as file:
        file.seek(end - 4)
        file.write(b"torn")
    return True


def test_notice_does_not_count_before_its_unit_says_so_however_often_it_is_read(
    files: SpoolWorld,
) -> None:
    """It would be delivered and gone, and nobody would know that it ever was."""
    die_before(files, TOLD)
    files.queue.carry_out(Wish.HOLD, Selection(domain="example.org"))
    for _ in range(2):
        assert due_now(files.shard(), START + 1e6) == []
    assert domains(files) == ["example.org"]
    files.queue.carry_out(Wish.RELEASE, Selection())
    shard = files.shard()
    (unit,) = due_now(shard, START)
    assert shard.claim(unit) is None
    assert domains(files) == ["example.net"]


def test_notice_that_counts_is_let_go_by_who_finds_it(files: SpoolWorld) -> None:
    die_before(files, LET_GO)
    assert domains(files) == []
    shard = files.shard()
    assert domains(files) == ["example.net"]
    step(shard)
    assert files.claim(shard).entry.envelope == BOUNCE


def test_notice_that_counts_is_let_go_when_its_unit_is_long_gone(files: SpoolWorld) -> None:
    """Another message is in the slot of the unit by then."""
    die_before(files, LET_GO)
    for _ in range(600):
        put(files.queue, "other@example.org")
    shard = files.shard()
    assert domains(files).count("example.net") == 1
    step(shard)
    assert shard.waiting() == 601


def test_deleted_unit_leaves_its_notice_neither_twice_nor_for_ever(files: SpoolWorld) -> None:
    die_before(files, TOLD)
    files.queue.carry_out(Wish.DELETE, Selection(domain="example.org"))
    shard = files.shard()
    assert [unit.domain for unit in due_now(shard, START)] == ["example.net"]
    assert domains(files) == ["example.net"]


def test_notice_to_several_is_let_go_whole(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    lease = files.claim(shard)
    lease.record({0: FAILED}, owed={0})
    lease.report(envelope("a@one.net", "b@two.net", sender=None), {0}).commit()
    assert sorted(unit.domain for unit in due_now(shard, START)) == ["one.net", "two.net"]


def test_notice_reaches_the_deliverer_of_its_domain(files: SpoolWorld) -> None:
    shard, other = files.shard(), files.open()
    put(files.queue, "a@example.org")
    step(shard)
    lease = files.claim(shard)
    lease.record({0: FAILED}, owed={0})
    lease.report(BOUNCE, {0}).commit()
    step(shard)
    notice = files.claim(shard)
    notice.record({0: DELIVERED})
    assert list(other.views(Selection())) == []
    other.close()
