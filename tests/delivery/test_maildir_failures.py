"""Broken and full disks, few descriptors: mail is deferred, and nothing is left."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pfsmtp.smtp.errors import TransientFailure
from pfsmtp.smtp.status import Status
from tests import disks
from tests.delivery.conftest import ALICE, BOB, CAROL, LARGE, MakePost, Post
from tests.syscalls import Border, Call, Judge, failing

FULL = Status(4, 3, 1)
BROKEN = Status(4, 3, 0)
FILES = ("openat", "writev", "fsync", "renameat2", "linkat", "unlinkat", "copy_file_range")


STATUS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EROFS: BROKEN,
    errno.EIO: BROKEN,
    errno.EMFILE: BROKEN,
    errno.ENFILE: BROKEN,
    errno.ENOMEM: BROKEN,
}


def failing_at(name: str, at: int, error: int) -> Judge:
    """The judge that has the call of this name fail that is number `at`, from 0 on."""
    numbers = itertools.count()
    return failing(name, error, lambda call: next(numbers) == at)


def refused(judge: Judge, action: Callable[[], object]) -> TransientFailure | None:
    """What the action is refused with, if it is."""
    try:
        Border((*FILES, "mkdirat"), judge).run(action)
    except TransientFailure as failure:
        return failure
    return None


@pytest.mark.parametrize("error", STATUS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["openat", "mkdirat", "writev", "fsync", "renameat2"])
def test_error_at_any_system_call_defers_the_message_and_leaves_nothing(
    post: Post, name: str, error: int
) -> None:
    """At each call of its name in turn, for two recipients whose Maildirs are still to be made."""
    for at in itertools.count():
        failure = refused(failing_at(name, at, error), lambda: post.send(ALICE, BOB))
        if failure is None:
            break
        assert failure.status == STATUS[error]
        assert isinstance(failure.__cause__, OSError)
        assert post.everything() == []
    assert at >= 1
    assert post.counts("alice", "bob") == [1, 1]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["openat", "writev", "copy_file_range", "fsync", "renameat2"])
def test_error_in_a_large_message_defers_it_and_leaves_nothing(
    post: Post, name: str, error: int
) -> None:
    post.send(ALICE, BOB, CAROL)
    before = post.everything()
    for at in itertools.count():
        failure = refused(
            failing_at(name, at, error), lambda: post.send(ALICE, BOB, CAROL, message=LARGE)
        )
        if failure is None:
            break
        assert failure.status == STATUS[error]
        assert post.everything() == before
    assert at >= 2
    assert len(post.everything()) == 6


def test_failed_sync_is_not_tried_again_and_the_next_message_uses_a_new_descriptor(
    post: Post,
) -> None:
    post.send(ALICE)
    border = Border(("fsync",), failing("fsync", errno.EIO))
    with pytest.raises(TransientFailure):
        border.run(lambda: post.send(ALICE))
    assert len(border.calls) == 1
    last = len(post.everything())
    calls = iter([None, errno.EIO])
    with pytest.raises(TransientFailure):
        Border(("fsync",), lambda call: next(calls)).run(lambda: post.send(ALICE))
    assert len(post.everything()) == last
    post.send(ALICE)
    assert post.counts("alice") == [2]


def test_name_that_is_taken_costs_another_name_and_no_message(post: Post) -> None:
    post.send(ALICE)
    (taken,) = post.everything()
    seen: list[Call] = []

    def judge(call: Call) -> int | None:
        if call.name != "renameat2":
            return None
        seen.append(call)
        return errno.EEXIST if len(seen) == 1 else None

    receipt = Border(FILES, judge).run(lambda: post.send(ALICE))
    assert sorted([str(taken), *receipt.files]) == [str(path) for path in post.everything()]
    assert len(seen) == 2


def test_full_disk_defers_mail_until_there_is_room(make_post: MakePost, tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk") as disk:
        post = make_post(disk / "mail")
        post.send(ALICE, BOB)
        filler = disks.fill(disk, spare=100_000)
        before = post.everything()
        for message in (bytes(60_000), bytes(200_000), bytes(2_000_000)):
            with pytest.raises(TransientFailure) as raised:
                post.send(ALICE, BOB, message=message)
            assert raised.value.status == FULL
            assert post.everything() == before
        filler.unlink()
        post.send(ALICE, BOB, message=bytes(200_000))
        assert post.counts("alice", "bob") == [2, 2]
        del post


def test_disk_without_inodes_defers_mail(make_post: MakePost, tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", "size=1m,nr_inodes=12") as disk:
        post = make_post(disk / "mail")
        post.send(ALICE)
        for i in range(20):
            try:
                (disk / f"inode{i}").touch()
            except OSError:
                break
        post.clock.pass_by(2)
        assert not post.store.room_for(1)
        for recipient in (ALICE, BOB):
            with pytest.raises(TransientFailure) as raised:
                post.send(recipient)
            assert raised.value.status == FULL
        assert post.counts("alice") == [1]
        del post


def test_read_only_disk_defers_mail(make_post: MakePost, tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk") as disk:
        post = make_post(disk / "mail")
        post.send(ALICE)
        disks.remount(disk, "ro")
        with pytest.raises(TransientFailure) as raised:
            post.send(ALICE)
        assert raised.value.status == BROKEN
        disks.remount(disk, "rw")
        post.send(ALICE)
        assert post.counts("alice") == [2]
        del post


@pytest.fixture
def all_descriptors_taken() -> Iterator[Callable[[], None]]:
    """Takes all that this process may have, until the test is over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def take() -> None:
        gc.collect()  # or what others have left open would be given back in between
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))

    yield take
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for fd in taken:
        os.close(fd)


def test_few_descriptors_defer_mail_and_are_given_back(
    post: Post, all_descriptors_taken: Callable[[], None]
) -> None:
    for i in range(10):
        post.send(f"user{i}@example.org")
    all_descriptors_taken()
    with pytest.raises(TransientFailure) as raised:
        post.send(ALICE, BOB)
    assert raised.value.status == BROKEN
    post.send(ALICE, BOB)
    assert post.counts("alice", "bob") == [1, 1]
