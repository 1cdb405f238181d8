"""Group commit: who is served by which sync, of a directory or of a whole file system."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pfsmtp import durable
from pfsmtp.durable import Directory, File, Filesystem
from tests import disks
from tests.boxes import FILES, Box
from tests.crowds import Crowd
from tests.syscalls import HOLD, Border, failing, on, until


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


# Group commit


def syncs_of(target: Directory) -> Crowd:
    """Threads that sync the same thing under a border that holds each sync."""
    return Crowd(
        dict.fromkeys("abcd", target.sync),
        lambda: target.waiting,
        ("fsync", "syncfs"),
        lambda call: HOLD,
    )


@pytest.fixture(params=["files", "filesystem"])
def synced(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    if request.param == "files":
        return Directory(tmp_path)
    return Directory(tmp_path, filesystem=Filesystem(Directory(tmp_path)))


def test_sync_that_began_before_serves_nobody_who_came_after(synced: Directory) -> None:
    syncs = syncs_of(synced)
    first = syncs.first_in_sync()
    syncs.border.let_go(first)
    until(lambda: len(syncs.border.held) == 1, "a second sync")
    until(lambda: syncs.ended == ["a"], "the end of the first")
    assert synced.waiting == 0  # all three are in the second
    syncs.border.let_go(syncs.border.held[0])
    syncs.end()
    assert sorted(syncs.ended) == ["a", "b", "c", "d"]
    assert len(syncs.border.calls) == 2
    assert not syncs.failures


def test_failed_sync_is_told_to_all_who_have_made_entries_and_to_all_who_come(
    synced: Directory,
) -> None:
    syncs = syncs_of(synced)
    syncs.border.let_go(syncs.first_in_sync(), errno.EIO)
    syncs.end()
    assert [failure.errno for failure in syncs.os_errors().values()] == [errno.EIO] * 4
    assert len(syncs.border.calls) == 1
    assert synced.failed
    with pytest.raises(OSError, match="sync"):
        synced.sync()


def test_directory_opened_anew_after_a_failed_sync_is_good_again(box: Box) -> None:
    with pytest.raises(OSError, match="sync"):
        Border(FILES, failing("fsync", errno.EIO, on(box.new.fd))).run(box.deliver)
    with pytest.raises(OSError, match="sync"):
        box.deliver("b")
    again = Box(box.path)
    again.deliver("c")
    assert list(again.shown()) == ["c"]


def test_directory_dropped_while_a_thread_syncs_stays_open_until_it_is_done(tmp_path: Path) -> None:
    kept = {"directory": Directory(tmp_path)}
    fd = kept["directory"].fd
    border = Border(("fsync",), lambda call: HOLD)
    end = border.start(lambda: kept.pop("directory").sync())
    until(lambda: len(border.held) == 1, "a sync")
    assert os.path.samefile(f"/proc/self/fd/{fd}", tmp_path)
    border.let_go(border.held[0])
    end()
    assert not os.path.exists(f"/proc/self/fd/{fd}")


def test_threads_that_deliver_at_once_each_find_their_file_there(box: Box) -> None:
    def deliver(i: int) -> bool:
        box.deliver(f"m{i}", b"%d" % i)
        return (box.path / f"new/m{i}").read_bytes() == b"%d" % i

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(deliver, range(200)))
    assert box.staged() == []


# A file system synced as a whole


@pytest.fixture
def whole(tmp_path: Path) -> Box:
    tmp_path.joinpath("box").mkdir()
    return Box(tmp_path / "box", Filesystem(Directory(tmp_path)))


def test_file_system_is_synced_before_the_rename_and_after_it(whole: Box) -> None:
    border = Border(FILES)
    border.run(whole.deliver)
    assert [call.name for call in border.calls] == [
        "openat",
        "writev",
        "syncfs",
        "renameat2",
        "syncfs",
    ]
    assert whole.shown() == {"a": b"message"}


def test_store_and_large_files_are_synced_with_their_file_system(whole: Box) -> None:
    def act() -> None:
        durable.store(whole.tmp, "a", [b"x"])
        file = File(whole.tmp, "b")
        file.write([b"y"])
        file.sync()

    border = Border(("fsync", "syncfs", "writev"))
    border.run(act)
    assert [call.name for call in border.calls] == ["writev", "syncfs"] * 2


def test_several_files_share_two_syncs_of_their_file_system(whole: Box) -> None:
    border = Border(("fsync", "syncfs"))
    border.run(
        lambda: durable.deliver_all([(whole.tmp, n, [b"x"], whole.new) for n in ("a", "b", "c")])
    )
    assert [call.name for call in border.calls] == ["syncfs"] * 2


def test_failed_sync_of_the_file_system_leaves_nothing(whole: Box) -> None:
    with pytest.raises(OSError, match="sync"):
        Border(FILES, failing("syncfs", errno.EIO)).run(whole.deliver)
    assert (whole.shown(), whole.staged()) == ({}, [])
    assert whole.new.failed


def test_directory_of_another_file_system_is_refused(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk") as disk:
        filesystem = Filesystem(Directory(tmp_path))
        with pytest.raises(OSError, match="another file system") as raised:
            Directory(disk, filesystem=filesystem)
        assert raised.value.errno == errno.EXDEV
