"""When a message to several is synced with its file system, and what then comes in which order."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pfsmtp.delivery.maildir.filesystems import LATELY, LITTLE, Filesystems, Unwritten
from pfsmtp.durable import Directory, Filesystem
from pfsmtp.smtp.errors import TransientFailure
from tests import disks
from tests.boxes import FILES, Box, to_all
from tests.delivery.conftest import MakePost, Post
from tests.syscalls import Border, failing

LOGINS = ["alice", "bob", "carol", "dave", "eve"]
ALL = [f"{login}@example.org" for login in LOGINS]
SEVERAL = 4


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disks.ext4(tmp_path_factory.mktemp("disk") / "mnt") as disk:
        yield disk


@dataclass
class Boxes:
    """As many as it takes, on one disk, and how much waits to be written to it."""

    disk: Path
    unwritten: int | None = 0
    filesystem: Filesystem | None = None
    now: float = 0.0
    filesystems: Filesystems = field(init=False)
    boxes: list[Box] = field(init=False)

    def __post_init__(self) -> None:
        self.filesystems = Filesystems(lambda: self.unwritten, clock=lambda: self.now)
        self.boxes = [Box(self.disk / f"box{i}", self.filesystem) for i in range(SEVERAL)]

    def instead(self) -> Filesystem | None:
        return self.filesystems.instead_of([box.new for box in self.boxes])


def test_file_system_may_be_synced_in_place_of_what_is_on_it(disk: Path) -> None:
    boxes = Boxes(disk)
    found = boxes.instead()
    assert found is not None
    assert found.device == boxes.boxes[0].new.device
    assert boxes.instead() is found
    assert boxes.filesystems.of(boxes.boxes[0].tmp) is found


@pytest.mark.parametrize("unwritten", [LITTLE + 1, None])
def test_each_is_synced_itself_where_much_else_may_wait_to_be_written(
    disk: Path, unwritten: int | None
) -> None:
    boxes = Boxes(disk, unwritten)
    assert boxes.instead() is None
    boxes.unwritten = LITTLE
    assert boxes.instead() is None  # not asked again yet
    boxes.now += LATELY * 1.01
    assert boxes.instead() is not None


def test_each_is_synced_itself_on_other_kinds_of_file_systems(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk") as disk:
        boxes = Boxes(disk)
        assert boxes.instead() is None
        assert boxes.instead() is None


def test_each_is_synced_itself_when_they_are_on_several_file_systems(
    disk: Path, tmp_path: Path
) -> None:
    boxes = Boxes(disk)
    with disks.tmpfs(tmp_path / "other") as other:
        boxes.boxes[-1] = Box(other)
        assert boxes.instead() is None


def test_what_is_synced_with_its_file_system_in_any_case_stays_so(disk: Path) -> None:
    assert Boxes(disk, filesystem=Filesystem(Directory(disk))).instead() is None


def test_file_system_whose_sync_has_failed_is_not_asked_again(disk: Path) -> None:
    boxes = Boxes(disk)
    failed = boxes.instead()
    assert failed is not None
    with pytest.raises(OSError, match="syncfs"):
        Border(("syncfs",), failing("syncfs", errno.EIO)).run(failed.sync)
    found = boxes.instead()
    assert found is not None
    assert found is not failed
    assert not found.failed


def test_kernel_says_how_much_it_has_yet_to_write(tmp_path: Path) -> None:
    unwritten = Unwritten()
    before = unwritten.octets()
    assert before is not None
    (tmp_path / "file").write_bytes(bytes(64 << 20))
    # Others write meanwhile, and the kernel may have begun with ours: both are counted.
    assert (unwritten.octets() or 0) - before > 16 << 20


def test_without_proc_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfsmtp.delivery.maildir.filesystems._MEMORY", "/proc/lacking")
    assert Unwritten().octets() is None


def test_directory_on_another_file_system_than_the_one_to_be_synced_is_refused(
    disk: Path, tmp_path: Path
) -> None:
    with disks.tmpfs(tmp_path / "other") as other:
        box = Box(other)
        with pytest.raises(OSError, match="another file system"):
            to_all([Box(disk / "here"), box], Filesystem(Directory(disk)))()
        assert (box.shown(), box.staged()) == ({}, [])


# Messages


@pytest.fixture
def post(make_post: MakePost, disk: Path) -> Post:
    """Whose Maildirs are there already."""
    post = make_post(disk / "mail")
    post.send(*ALL)
    for login in LOGINS:
        for file in (post.maildir(login) / "new").iterdir():
            file.unlink()
    return post


def test_i5_all_files_are_on_disk_before_one_is_renamed_and_all_names_before_the_250(
    post: Post,
) -> None:
    border = Border(FILES)
    border.run(lambda: post.send(*ALL))
    written = [call.name for call in border.calls if call.name != "openat"]
    count = len(ALL)
    assert written == ["writev"] * count + ["syncfs"] + ["renameat2"] * count + ["syncfs"]
    assert post.counts(*LOGINS) == [1] * count


def test_message_to_few_is_synced_itself(post: Post) -> None:
    border = Border(("fsync", "syncfs"))
    border.run(lambda: post.send(*ALL[: SEVERAL - 1]))
    assert [call.name for call in border.calls] == ["fsync"] * 2 * (SEVERAL - 1)


@pytest.mark.parametrize("failed", [1, 2])
def test_i4_failed_sync_leaves_nothing_for_anybody_and_the_next_message_is_taken(
    post: Post, failed: int
) -> None:
    syncs = itertools.count(1)
    border = Border(("syncfs",), failing("syncfs", errno.EIO, lambda call: next(syncs) == failed))
    with pytest.raises(TransientFailure):
        border.run(lambda: post.send(*ALL))
    assert post.counts(*LOGINS) == [0] * len(ALL)
    assert not any("tmp" in path.parts for path in post.everything())
    post.send(*ALL)
    assert post.counts(*LOGINS) == [1] * len(ALL)
