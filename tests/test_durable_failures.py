"""Durable files when the system says no: nothing is left, and nothing is called good."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from pfsmtp import durable
from tests import disks
from tests.boxes import FILES, Box, to_all
from tests.syscalls import Border, Call, failing, on


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def boxes(tmp_path: Path) -> list[Box]:
    return [Box(tmp_path / str(i)) for i in range(3)]


EVERY_ERROR = [
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
]


@pytest.mark.parametrize("error", EVERY_ERROR, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["openat", "writev", "fsync", "renameat2"])
def test_failing_call_is_named_and_leaves_nothing(box: Box, name: str, error: int) -> None:
    border = Border(FILES, failing(name, error))
    with pytest.raises(OSError, match=r"open|write|fsync|rename") as raised:
        border.run(box.deliver)
    assert raised.value.errno == error
    assert box.shown() == {}
    assert box.staged() == []
    assert len(border.made(name)) == 1  # never tried again


def test_failing_sync_of_the_directory_takes_the_file_back(box: Box) -> None:
    border = Border(FILES, failing("fsync", errno.EIO, on(box.new.fd)))
    with pytest.raises(OSError, match="sync") as raised:
        border.run(box.deliver)
    assert raised.value.errno == errno.EIO
    assert box.shown() == {}
    assert box.staged() == []


@pytest.mark.parametrize("name", ["openat", "writev", "fsync", "renameat2"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_failure_for_one_of_several_leaves_none(boxes: list[Box], name: str, at: int) -> None:
    seen: list[Call] = []

    def judge(call: Call) -> int | None:
        if call.name != name or (name == "openat" and not call.makes_file):
            return None
        seen.append(call)
        return errno.ENOSPC if len(seen) == at + 1 else None

    with pytest.raises(OSError, match="No space"):
        Border(FILES, judge).run(to_all(boxes))
    assert [box.shown() for box in boxes] == [{}] * 3
    assert [box.staged() for box in boxes] == [[]] * 3


def test_what_was_renamed_before_a_failure_is_unlinked_and_that_is_synced(boxes: list[Box]) -> None:
    last = boxes[-1]
    border = Border(
        FILES, failing("renameat2", errno.EIO, lambda call: call.args[0] == last.tmp.fd)
    )
    with pytest.raises(OSError, match="rename"):
        border.run(to_all(boxes))
    undone = border.calls[border.calls.index(border.made("renameat2")[-1]) + 1 :]
    assert [(call.name, call.args[0]) for call in undone] == [
        ("unlinkat", boxes[0].new.fd),
        ("unlinkat", boxes[1].new.fd),
        ("unlinkat", last.tmp.fd),
        ("fsync", boxes[0].new.fd),
        ("fsync", boxes[1].new.fd),
    ]


def test_interrupted_calls_are_made_again(box: Box) -> None:
    seen: set[str] = set()

    def judge(call: Call) -> int | None:
        first = call.name in ("openat", "writev") and call.name not in seen
        seen.add(call.name)
        return errno.EINTR if first else None

    Border(FILES, judge).run(box.deliver)
    assert box.shown() == {"a": b"message"}


def test_write_that_the_system_cuts_short_is_continued_until_it_fails(box: Box) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        durable.deliver(box.tmp, "fits", [b"x" * 3000, b"y" * 3000], box.new)
        with pytest.raises(OSError, match="write") as raised:
            durable.deliver(box.tmp, "a", [b"x" * 5000, b"y" * 5000], box.new)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG
    assert list(box.shown()) == ["fits"]
    assert box.staged() == []


def test_full_disk_leaves_nothing_and_takes_mail_again_once_there_is_room(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk") as disk:
        box = Box(disk)
        filler = disks.fill(disk, spare=8192)
        with pytest.raises(OSError, match="No space") as raised:
            box.deliver(octets=bytes(100_000))
        assert raised.value.errno == errno.ENOSPC
        assert (box.shown(), box.staged()) == ({}, [])
        filler.unlink()
        box.deliver(octets=bytes(100_000))
        assert list(box.shown()) == ["a"]
        del box
