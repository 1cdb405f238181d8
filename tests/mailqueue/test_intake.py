"""Putting a message: what makes it safe, and that a failure leaves nothing."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.mailqueue.entry import Selection
from pfsmtp.mailqueue.segment import KINDS, Segments, lock
from pfsmtp.smtp.errors import PermanentFailure, TransientFailure
from pfsmtp.smtp.status import Status
from tests import disks
from tests.mailqueue.conftest import (
    START,
    MakeSpool,
    SpoolWorld,
    due_now,
    envelope,
    everything,
    put,
)
from tests.syscalls import Border, Call, failing

LARGE = b"x" * 300_000

FULL = Status(4, 3, 1)
BROKEN = Status(4, 3, 0)
STATUS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EROFS: BROKEN,
    errno.EIO: BROKEN,
    errno.EMFILE: BROKEN,
    errno.ENFILE: BROKEN,
    errno.ENOMEM: BROKEN,
    errno.EAGAIN: BROKEN,
}

CALLS = ("openat", "writev", "fsync", "pwritev", "fdatasync", "renameat2")


def loose_files(world: SpoolWorld) -> list[Path]:
    """Files that belong to no message while the queue is empty."""
    return [path for name in ("tmp", "bodies", "damaged") for path in (world.path / name).iterdir()]


def failing_at(name: str, at: int, error: int) -> Callable[[Call], int | None]:
    """The judge that has the call of this name fail that is number `at`, from 0 on."""
    numbers = itertools.count()
    return failing(name, error, lambda call: next(numbers) == at)  # type: ignore[return-value]


def refusal_of(judge: Callable[[Call], int | None], action: Callable[[], object]) -> Status | None:
    """What the action is refused with, None if it is not."""
    try:
        Border(CALLS, judge).run(action)
    except TransientFailure as failure:
        return failure.status if isinstance(failure.__cause__, OSError) else None
    return None


@pytest.mark.parametrize("error", STATUS, ids=errno.errorcode.get)
@pytest.mark.parametrize("message", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", CALLS)
def test_error_at_any_system_call_defers_the_message_and_leaves_nothing(
    files: SpoolWorld, name: str, message: bytes, error: int
) -> None:
    """At each call of its name in turn, in a queue without files and in one with some."""
    shard = files.shard()
    for at in itertools.count():
        status = refusal_of(
            failing_at(name, at, error), lambda: put(files.queue, "a@x.org", message=message)
        )
        if status is None:
            break
        assert status == STATUS[error]
        assert loose_files(files) == []
        assert everything(files.queue) == []
        assert due_now(shard, START) == []
    assert len(due_now(shard, START)) == 1
    assert len(everything(files.queue)) == 1


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_message_that_was_refused_is_not_found_by_the_next_process(
    files: SpoolWorld, call: str
) -> None:
    put(files.queue, "a@example.org")
    assert refusal_of(failing_at(call, 0, errno.EIO), lambda: put(files.queue, "b@example.org"))
    files.restart()
    assert len(due_now(files.shard(), START)) == 1


def test_message_that_was_written_in_part_is_wiped(files: SpoolWorld) -> None:
    """The disk takes the first pages of a slot, and no more."""
    put(files.queue, "a@example.org", message=bytes(10_000))
    shard = files.shard()
    assert len(due_now(shard, START)) == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384 + 8192, hard))
    try:
        with pytest.raises(TransientFailure) as caught:
            put(files.queue, "b@example.org", message=bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.status == FULL
    (path,) = (files.path / "slots" / "16k").iterdir()
    assert path.read_bytes()[16_384 : 16_384 + 4096] == bytes(4096)
    assert len(everything(files.queue)) == 1
    assert due_now(files.shard(), START) != []
    assert files.events.lines == []


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_message_is_seen_by_nobody_before_it_is_on_disk(files: SpoolWorld, call: str) -> None:
    """While it is written and synced, neither a hint nor a whole round of reading gives it out."""
    shard = files.shard()
    put(files.queue, "first@example.org")
    assert len(due_now(shard, START)) == 1
    started, go_on = threading.Event(), threading.Event()

    def judge(call: Call) -> None:
        started.set()
        go_on.wait(10)

    end = Border((call,), judge).start(lambda: put(files.queue, "second@example.org"))
    assert started.wait(10)
    assert due_now(shard, START) == []
    for unit in due_now(other := files.shard(), START):  # which has read what is there
        if (lease := other.claim(unit)) is not None:
            assert lease.entry.envelope.recipients[0].mailbox.local_part == "first"
            files.note(lease)
    go_on.set()
    end()
    assert len(due_now(shard, START)) == 1


def test_order_of_system_calls_for_a_small_message(files: SpoolWorld) -> None:
    """Lock, write, sync, unlock, tell the deliverer; nothing is opened."""
    put(files.queue, "a@example.org")
    files.shard()
    others = ("openat", "fsync", "renameat2", "unlinkat", "writev", "pread64")
    border = Border(("fcntl", "pwritev", "fdatasync", "write", *others))
    border.run(lambda: put(files.queue, "b@example.org"))
    names = [call.name for call in border.calls]
    assert names == ["fcntl", "pwritev", "fdatasync", "fcntl", "write"]
    pen, synced = (border.made(name)[0].args[0] for name in ("pwritev", "fdatasync"))
    assert pen != synced
    assert os.path.samefile(f"/proc/self/fd/{pen}", f"/proc/self/fd/{synced}")


def test_order_of_system_calls_for_a_large_message(files: SpoolWorld) -> None:
    """Body, its file, its directory; only then the slot that speaks of it."""
    put(files.queue, "a@example.org")
    calls = ("openat", "pwritev", "fdatasync", "fsync", "renameat2", "unlinkat", "writev")
    border = Border(calls)
    border.run(lambda: put(files.queue, "b@example.org", message=LARGE))
    names = [call.name for call in border.calls]
    assert names == ["openat", "writev", "fsync", "fsync", "pwritev", "fdatasync"]
    synced = [call.args[0] for call in border.made("fsync")]
    assert synced[1] == files.spool._files.bodies.fd


def test_new_file_is_synced_and_named_before_a_message_is_put_in_it(files: SpoolWorld) -> None:
    border = Border(("pwritev", "fdatasync", "fsync", "renameat2", "writev"))
    border.run(lambda: put(files.queue, "b@example.org"))
    names = [call.name for call in border.calls if call.name != "writev"]
    assert names == ["fsync", "renameat2", "fsync", "pwritev", "fdatasync"]


def test_slot_that_somebody_looks_at_is_passed_over(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org")
    segments: Segments = files.spool._files.segments
    (file,) = segments.existing(KINDS[0])
    other = files.open()
    with other._files.segments.pen(file) as pen:
        assert lock(pen, KINDS[0].size, 1)  # the slot that comes next
        put(files.queue, "b@example.org")
        put(files.queue, "c@example.org")
    assert len(everything(files.queue)) == 3
    other.close()


def test_thousands_of_threads_put_at_the_same_time(files: SpoolWorld) -> None:
    shard = files.shard()

    def put_some() -> None:
        for _ in range(20):
            put(files.queue, "a@example.org")

    threads = [threading.Thread(target=put_some) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = []
    while units := due_now(shard, START):
        found += units
    assert len(found) == 800
    assert len({view.entry.id for view in files.queue.views(Selection())}) == 800


def test_full_disk_defers_and_takes_the_next_message_once_there_is_room(
    make_spool: MakeSpool, tmp_path: Path
) -> None:
    with disks.tmpfs(tmp_path / "disk", "size=8m") as disk:
        world = make_spool(disk / "queue")
        filler = disks.fill(disk)
        for message in (b"small", LARGE):
            with pytest.raises(TransientFailure) as caught:
                put(world.queue, "a@example.org", message=message)
            assert caught.value.status == FULL
            assert loose_files(world) == []
        filler.unlink()
        put(world.queue, "a@example.org", message=LARGE)
        assert len(everything(world.queue)) == 1
        world.close()


def test_room_is_what_the_disk_has(make_spool: MakeSpool, tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", "size=64m") as disk:
        world = make_spool(disk / "queue")
        assert world.queue.room_for(30 << 20)
        assert not world.queue.room_for(60 << 20)
        filler = disks.fill(disk)
        world.clock.now += 2
        assert not world.queue.room_for(1)
        filler.unlink()
        world.clock.now += 2
        assert world.queue.room_for(30 << 20)
        world.close()


def test_envelope_too_large_for_any_slot_is_refused_for_good(files: SpoolWorld) -> None:
    intake = files.queue.begin(envelope(*("x" * 500 + f"{n}@{n}.example" for n in range(9000))))
    intake.write(LARGE)
    with pytest.raises(PermanentFailure) as caught:
        intake.commit()
    assert str(caught.value.status) == "5.5.3"
    assert loose_files(files) == []


def test_body_of_a_message_is_private(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org", message=LARGE)
    for path in files.path.rglob("*"):
        mode = os.stat(path).st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600)
