"""File systems on a disk that is recorded, and on what a power cut leaves of it.

    with RecordedDisk(directory, EXT4) as disk:
        with disk.mounted(mountpoint):
            ...                              # disk.position() is how far the record is
    for cut in disk.cuts(…):
        with disk.surviving(cut, mountpoint, random): ...

The disk is a loop device over `recorder`. Nothing is taken away from the kernel while it runs: the
record holds every moment at which the power could have failed, and any of them can be looked at
afterwards. That is why one run stands for many cuts.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import pytest

from tests import needs
from tests.powercut.record import Cut, Position, Remains, copy_sparse, read
from tests.running.program import ROOT

_SIZE = 320 << 20  # octets; xfs takes no less than 300 MiB
_TRIES = 100


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A kind of file system; commands get the image as their last argument."""

    name: str
    kind: str
    package: str
    make: Sequence[str]
    options: str
    check: Sequence[str] = ()
    """What a machine runs at its start before it mounts."""
    sector: int = 512
    """Octets of which a disk has to write all or none for the file system to keep its word."""
    lost_and_found: bool = False
    """Whether its check may find files that were synced, and whose names are gone."""


EXT4 = FileSystem(
    "ext4",
    "ext4",
    "e2fsprogs",
    ("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "loop",
    ("e2fsck", "-p"),
)
# Without a journal, checking is all there is, and blocks are written in place: when a directory
# grows, half of its names move to another block, and the old one may come to the disk alone.
EXT4_WITHOUT_JOURNAL = FileSystem(
    "ext4 without journal",
    "ext4",
    "e2fsprogs",
    (*EXT4.make, "-O", "^has_journal"),
    "loop",
    ("e2fsck", "-f", "-y"),
    sector=4096,
    lost_and_found=True,
)
# A mount namespace that somebody has made while the disk before was mounted holds it still, and
# this one has the same UUID, for which xfs refuses it.
XFS = FileSystem("xfs", "xfs", "xfsprogs", ("mkfs.xfs", "-q", "-f"), "loop,nouuid")
# Its superblock is 4 KiB that are written over.
BTRFS = FileSystem(
    "btrfs", "btrfs", "btrfs-progs", ("mkfs.btrfs", "-q", "-f"), "loop,nodiscard", sector=4096
)


class RecordedDisk:
    """A new file system; its record, while it is in use; what is left of it, afterwards."""

    def __init__(self, directory: Path, filesystem: FileSystem) -> None:
        """Skips the test where the machine has not what it takes."""
        _need(filesystem)
        self._directory = directory
        self._filesystem = filesystem
        self._record = directory / "record"
        self._point = directory / "disk"
        self._remains: Remains | None = None
        image, empty = directory / "image", directory / "empty"
        with image.open("wb") as file:
            file.truncate(_SIZE)
        _run(*filesystem.make, image)
        copy_sparse(image, empty)
        self._empty = empty
        self._point.touch()
        self.position = Position(self._record)
        self._recorder = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.powercut.recorder"),
                *map(str, (image, self._point, self._record)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert self._recorder.stdout is not None
        if self._recorder.stdout.readline() != "mounted\n":
            _, said = self._recorder.communicate()
            if "PermissionError" in said:
                pytest.skip("may not mount a file through FUSE")
            raise AssertionError(said)

    @contextmanager
    def mounted(self, where: Path) -> Iterator[Path]:
        """The disk in use. Once this is left, nothing is recorded any more."""
        _mount(self._filesystem, self._point, where)
        try:
            yield where
        finally:
            _unmount(where)
            self.close()
            _run("rm", self._directory / "image")
        entries = read(self._record)
        self._remains = Remains(self._empty, entries, sector=self._filesystem.sector)

    def cuts(
        self, random: Random, count: int, *, answers: Sequence[int], within: tuple[int, int]
    ) -> list[Cut]:
        """Choose moments of the record, in their order.

        In turn: right after an answer that somebody was given, right before a flush, and any.
        """
        assert self._remains is not None
        first, last = within
        moments = [
            [each for each in answers if first <= each <= last],
            self._remains.before_flushes(first, last),
            range(first, last + 1),
        ]
        turns = islice(cycle(filter(None, moments)), count)
        return [self._remains.cut(each) for each in sorted(random.choice(turn) for turn in turns)]

    @contextmanager
    def surviving(self, cut: Cut, where: Path, random: Random) -> Iterator[int]:
        """What is left, mounted as a machine does that starts; how many writes were at stake."""
        assert self._remains is not None
        image = self._directory / "surviving"
        at_stake = self._remains.after(cut, image, random)
        if self._filesystem.check:
            checked = subprocess.run(
                [*self._filesystem.check, image], capture_output=True, text=True
            )
            # fsck(8): 0 is clean, 1 is mended.
            assert checked.returncode in (0, 1), checked.stdout + checked.stderr
        _mount(self._filesystem, image, where)
        try:
            yield at_stake
        finally:
            _unmount(where)
            image.unlink()

    def close(self) -> None:
        """End the recorder."""
        if self._recorder.returncode is None:
            # Neither is waited for: another mount namespace may hold the file.
            _run("umount", "--lazy", self._point)
            self._recorder.terminate()
            _, said = self._recorder.communicate()
            self.position.close()
            assert self._recorder.returncode in (0, -signal.SIGTERM), said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()
        for name in ("record", "empty", "surviving", "image"):
            (self._directory / name).unlink(missing_ok=True)


def _need(filesystem: FileSystem) -> None:
    needs.root()
    for path in (Path("/dev/fuse"), Path("/dev/loop-control")):
        needs.device(path)
    needs.filesystem(filesystem.kind)
    needs.tool(filesystem.make[0], package=filesystem.package)


def _mount(filesystem: FileSystem, image: Path, where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", filesystem.kind, "-o", filesystem.options, image, where)


def _unmount(where: Path) -> None:
    """Unmount; whoever has been killed may hold it for a moment still."""
    for _ in range(_TRIES):
        if subprocess.run(["umount", where], capture_output=True).returncode == 0:
            return
        time.sleep(0.05)
    _run("umount", where)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
