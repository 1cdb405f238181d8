"""Durable files: what is on disk when, and in which order."""

from __future__ import annotations

import errno
import gc
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pfsmtp import durable
from pfsmtp.durable import Directory, File
from tests import needs
from tests.boxes import FILES, Box, to_all
from tests.syscalls import Border, Call, failing

HOUR = 3600.0


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def boxes(tmp_path: Path) -> list[Box]:
    return [Box(tmp_path / str(i)) for i in range(3)]


# Contents


def test_delivered_file_is_whole_private_and_no_longer_in_tmp(box: Box) -> None:
    durable.deliver(box.tmp, "a", [b"one ", b"", b"two"], box.new)
    assert box.shown() == {"a": b"one two"}
    assert box.staged() == []
    assert (box.path / "new/a").stat().st_mode & 0o7777 == 0o600


def test_more_parts_than_one_call_takes_are_all_written_in_order(box: Box) -> None:
    parts = [str(i).encode() + b"," for i in range(5000)]
    durable.deliver(box.tmp, "a", parts, box.new)
    assert box.shown() == {"a": b"".join(parts)}


def test_file_without_octets_is_made(box: Box) -> None:
    durable.store(box.tmp, "a", [])
    durable.store(box.tmp, "b", [b"", b""])
    assert box.staged() == ["a", "b"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\0b", "\ud800"])
def test_name_that_is_a_path_or_none_is_refused(box: Box, name: str) -> None:
    for attempt in (
        lambda: box.deliver(name),
        lambda: durable.store(box.tmp, name, []),
        lambda: durable.move(box.tmp, name, box.new, "a"),
        lambda: durable.move(box.tmp, "a", box.new, name),
        lambda: durable.remove(box.tmp, name),
        lambda: File(box.tmp, name),
    ):
        with pytest.raises(ValueError, match=r"name|surrogates"):
            attempt()
    os.fstat(0)  # a File that never was closed it once


def test_parts_that_are_no_bytes_are_refused_before_anything_is_made(box: Box) -> None:
    with pytest.raises(TypeError, match="bytearray"):
        durable.deliver(box.tmp, "a", [bytearray(b"x")], box.new)  # type: ignore[list-item]
    assert box.staged() == []


def test_no_directory_is_refused_before_anything_is_made(box: Box) -> None:
    nowhere: Directory = None  # type: ignore[assignment]
    attempts: list[Callable[[], None]] = [
        lambda: durable.deliver(box.tmp, "a", [b"x"], nowhere),
        lambda: durable.deliver_all([(box.tmp, "a", [b"x"], nowhere)]),
        lambda: durable.deliver_all([(nowhere, "a", [b"x"], box.new)]),
        lambda: durable.publish([(box.tmp, "a", nowhere)]),
        lambda: durable.store(nowhere, "a", [b"x"]),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError):
            attempt()
    assert box.staged() == []


# Nothing is ever replaced


def test_name_taken_in_tmp_is_an_error_and_leaves_the_other_file(box: Box) -> None:
    (box.path / "tmp/a").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        box.deliver()
    assert (box.path / "tmp/a").read_bytes() == b"another's"
    assert box.shown() == {}


def test_name_taken_in_new_is_an_error_and_leaves_the_other_file(box: Box) -> None:
    (box.path / "new/a").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        box.deliver()
    assert box.shown() == {"a": b"another's"}
    assert box.staged() == []


def test_symbolic_link_in_place_of_the_file_is_not_followed(box: Box, tmp_path: Path) -> None:
    (box.path / "tmp/a").symlink_to(tmp_path / "outside")
    with pytest.raises(FileExistsError):
        box.deliver()
    assert not (tmp_path / "outside").exists()


def test_move_never_replaces(box: Box) -> None:
    durable.store(box.tmp, "a", [b"1"])
    durable.store(box.new, "b", [b"2"])
    with pytest.raises(FileExistsError):
        durable.move(box.tmp, "a", box.new, "b")
    durable.move(box.tmp, "a", box.new, "c")
    assert box.shown() == {"b": b"2", "c": b"1"}


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS])
def test_file_system_without_the_flag_gets_link_and_unlink(box: Box, error: int) -> None:
    border = Border(FILES, failing("renameat2", error))
    border.run(box.deliver)
    assert [call.name for call in border.calls[-3:]] == ["linkat", "unlinkat", "fsync"]
    assert box.shown() == {"a": b"message"}
    assert box.staged() == []
    with pytest.raises(FileExistsError):
        Border(FILES, failing("renameat2", error)).run(lambda: box.deliver(octets=b"2"))
    assert box.shown() == {"a": b"message"}


def test_link_without_unlink_is_taken_back(box: Box) -> None:
    def judge(call: Call) -> int | None:
        if call.name == "unlinkat" and call.args[0] == box.tmp.fd:
            return errno.EIO
        return errno.EINVAL if call.name == "renameat2" else None

    with pytest.raises(OSError, match="rename"):
        Border(FILES, judge).run(box.deliver)
    assert box.shown() == {}


def test_remove_does_not_mind_what_is_not_there(box: Box) -> None:
    durable.store(box.tmp, "a", [])
    durable.remove(box.tmp, "a")
    durable.remove(box.tmp, "a")
    assert box.staged() == []


# Order


def test_file_is_synced_before_it_is_renamed_and_its_entry_after(box: Box) -> None:
    border = Border(FILES)
    border.run(box.deliver)
    assert [call.name for call in border.calls] == [
        "openat",
        "writev",
        "fsync",
        "renameat2",
        "fsync",
    ]
    opened, written, synced, renamed, entry = border.calls
    assert opened.args[0] == renamed.args[0] == box.tmp.fd
    assert written.args[0] == synced.args[0] != entry.args[0]
    assert renamed.args[2] == entry.args[0] == box.new.fd


def test_all_files_are_synced_before_the_first_rename_and_all_renamed_before_the_first_entry(
    boxes: list[Box],
) -> None:
    border = Border(("fsync", "renameat2"))
    border.run(to_all(boxes))
    assert [call.name for call in border.calls] == ["fsync"] * 3 + ["renameat2"] * 3 + ["fsync"] * 3
    assert [call.args[0] for call in border.calls[-3:]] == [box.new.fd for box in boxes]


def test_directory_of_several_files_is_synced_once(box: Box) -> None:
    border = Border(("fsync", "renameat2"))
    border.run(
        lambda: durable.deliver_all([(box.tmp, name, [b"x"], box.new) for name in ("a", "b", "c")])
    )
    assert [call.args[0] for call in border.calls].count(box.new.fd) == 1
    assert sorted(box.shown()) == ["a", "b", "c"]


def test_hundreds_of_files_need_few_descriptors(box: Box) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 50, hard))
    try:
        durable.deliver_all([(box.tmp, f"{i}", [b"x"], box.new) for i in range(300)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(box.shown()) == 300


def test_strace_sees_exactly_the_six_system_calls_of_a_delivery(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from pfsmtp import durable
        tmp, new = durable.Directory(sys.argv[1]), durable.Directory(sys.argv[2])
        durable.deliver(tmp, "warm", [b"x"], new)
        durable.deliver(tmp, "watched", [b"header", b"body"], new)
        durable.remove(new, "ends")
        """
    box = Box(tmp_path / "box")
    trace = tmp_path / "trace"
    command = [needs.tool("strace"), "-y", "-o", str(trace), sys.executable, "-c", script]
    subprocess.run([*command, box.path / "tmp", box.path / "new"], check=True)
    text = trace.read_text()
    watched = text[text.index('"watched"') - 200 : text.index('"ends"')].splitlines()
    start = next(i for i, line in enumerate(watched) if '"watched"' in line)
    calls = [line for line in watched[start:-1] if line]
    assert [re.match(r"\w+", call)[0] for call in calls] == [  # type: ignore[index]
        "openat",
        "writev",
        "fsync",
        "close",
        "renameat2",
        "fsync",
    ]
    opened, written, synced, closed, renamed, entry = calls
    assert "O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600" in opened
    assert all("/tmp/watched>" in call for call in (written, synced, closed))
    assert "RENAME_NOREPLACE" in renamed
    assert "/box/new>" in entry


# Large files


def test_memory_is_given_back_once_the_file_is_on_disk(box: Box) -> None:
    border = Border(("writev", "fsync", "fadvise64", "renameat2"))
    border.run(lambda: durable.deliver(box.tmp, "a", [bytes(32 << 10), b"."], box.new))
    assert [call.name for call in border.calls] == [
        "writev",
        "fsync",
        "fadvise64",
        "renameat2",
        "fsync",
    ]


def test_file_grows_and_is_published(box: Box) -> None:
    file = File(box.tmp, "a")
    file.write([b"one ", b"two "])
    file.write([b"three"])
    assert file.size == 13
    file.sync()
    durable.publish([(box.tmp, "a", box.new)])
    assert box.shown() == {"a": b"one two three"}
    assert box.staged() == []


@pytest.mark.parametrize("error", [None, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS])
def test_copy_has_a_head_of_its_own_and_the_same_body(box: Box, error: int | None) -> None:
    body = os.urandom(300_000)
    file = File(box.tmp, "a")
    file.write([b"To: alice\n", body])

    def judge(call: Call) -> int | None:
        return error if call.name == "copy_file_range" else None

    border = Border(("copy_file_range", "sendfile", "fsync"), judge)
    border.run(lambda: file.copy(box.new, "b", [b"To: ", b"bob\n"], len(b"To: alice\n")))
    assert box.shown() == {"b": b"To: bob\n" + body}
    assert bool(border.made("sendfile")) == (error is not None)
    assert border.calls[-1].name == "fsync"


def test_copy_is_had_of_a_file_whose_name_is_gone(box: Box) -> None:
    file = File(box.tmp, "a")
    file.write([b"body"])
    durable.remove(box.tmp, "a")
    file.copy(box.new, "b", [], 0)
    assert box.shown() == {"b": b"body"}


def test_copy_that_fails_leaves_nothing(box: Box) -> None:
    file = File(box.tmp, "a")
    file.write([b"body"])
    border = Border((*FILES, "copy_file_range"), failing("copy_file_range", errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        border.run(lambda: file.copy(box.new, "b", [], 0))
    assert box.shown() == {}


def test_publish_is_for_all_or_none(boxes: list[Box]) -> None:
    for box in boxes:
        durable.store(box.tmp, "a", [b"message"])
    (boxes[2].path / "new/a").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        durable.publish([(box.tmp, "a", box.new) for box in boxes])
    assert [box.shown() for box in boxes] == [{}, {}, {"a": b"another's"}]
    assert [box.staged() for box in boxes] == [[]] * 3


def test_closed_file_takes_nothing_more(box: Box) -> None:
    file = File(box.tmp, "a")
    file.close()
    file.close()
    with pytest.raises(OSError, match="write"):
        file.write([b"x"])


# Directories


def no_directories(path: Path) -> Iterator[Path]:
    (path / "link").symlink_to(path)
    (path / "file").touch()
    os.mkfifo(path / "fifo")
    yield from (path / name for name in ("link", "file", "fifo", "missing"))


def test_directory_is_opened_only_where_it_is_one(tmp_path: Path) -> None:
    for path in no_directories(tmp_path):
        with pytest.raises(OSError, match=path.name):
            Directory(path)
        with pytest.raises(OSError, match=path.name):
            Directory(path.name, parent=Directory(tmp_path))
    assert Directory(tmp_path / "link", follow=True).inode == tmp_path.stat().st_ino


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        Directory(path)


def test_directories_that_fail_to_open_leave_no_descriptor(tmp_path: Path) -> None:
    gc.collect()
    before = os.listdir("/proc/self/fd")
    for path in no_directories(tmp_path):
        with pytest.raises(OSError, match=path.name):
            Directory(path)
    assert os.listdir("/proc/self/fd") == before


def test_missing_directory_is_made_private_and_its_entry_synced(tmp_path: Path) -> None:
    parent = Directory(tmp_path)
    border = Border(("mkdirat", "fsync"))
    made = border.run(lambda: durable.make_directory("a", parent=parent, now=time.time()))
    assert [call.name for call in border.calls] == ["mkdirat", "fsync"]
    assert border.calls[1].args[0] == parent.fd
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert made.inode == (tmp_path / "a").stat().st_ino


def test_directory_that_another_has_just_made_is_synced_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    parent = Directory(tmp_path)
    border = Border(("fsync",))
    border.run(lambda: durable.make_directory("a", parent=parent, now=time.time()))
    assert [call.args[0] for call in border.calls] == [parent.fd]


def test_directory_that_has_long_been_there_is_not_synced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    parent = Directory(tmp_path)
    border = Border(("fsync",))
    border.run(lambda: durable.make_directory("a", parent=parent, now=time.time() + 2 * HOUR))
    assert border.calls == []


def test_path_is_made_with_all_that_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    path = tmp_path / "link/a/b/c"
    border = Border(("mkdirat", "fsync"))
    made = border.run(lambda: durable.make_path(path, now=time.time()))
    assert made.inode == (tmp_path / "real/a/b/c").stat().st_ino
    assert [call.name for call in border.calls] == ["mkdirat", "fsync"] * 3
    assert {os.stat(tmp_path / "real" / p).st_mode & 0o777 for p in ("a", "a/b")} == {0o700}
