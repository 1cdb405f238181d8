"""The file systems that Maildirs are on, to be synced as a whole (`syncfs`): when, and which.

With `[local] sync = "filesystem"` that is done for every message, and the operator has said that a
file system holds nothing but mail. Else it is done for a message to several Maildirs, where it
takes two syncs in place of two for each; but only where little else would be written for it, and
on file systems where the power was cut in tests (docs/decisions/0013).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from threading import Lock

from pfsmtp.durable import Directory, Filesystem

SEVERAL = 4
"""Copies of one message, from which on their file system is synced in place of each."""

LITTLE = 128 << 20
"""Octets that a disk writes in about a second."""

_TESTED = (0xEF53, 0x58465342)  # statfs(2): ext2 to ext4, XFS

_MEMORY = "/proc/meminfo"


class Filesystems:
    """Shared by all threads of a process; made anew after a sync that failed."""

    def __init__(self, unwritten: Callable[[], int | None] | None = None) -> None:
        """`unwritten` says how many octets wait to be written, to any disk; None: not known."""
        self._unwritten = unwritten if unwritten is not None else Unwritten().octets
        self._known: dict[int, Filesystem] = {}  # by device
        self._unfit: set[int] = set()  # devices for which `instead_of` has no answer
        self._changing = Lock()

    def of(self, directory: Directory) -> Filesystem:
        """The one that `directory` is on. Raises OSError where it cannot be synced as a whole."""
        with self._changing:
            known = self._known.get(directory.device)
            if known is None or known.failed:
                known = self._known[directory.device] = Filesystem(directory)
            return known

    def instead_of(self, directories: Sequence[Directory]) -> Filesystem | None:
        """What to sync in place of each file and directory, given the directory of each copy.

        None: each is to be synced itself, or is in any case with its file system.
        """
        if len(directories) < SEVERAL:
            return None
        device = directories[0].device
        if device in self._unfit or any(
            each.device != device or each.filesystem is not None for each in directories
        ):
            return None
        unwritten = self._unwritten()
        if unwritten is None or unwritten > LITTLE:
            return None
        try:
            filesystem = self.of(directories[0])
        except OSError:
            return None  # before Linux 5.8, or for want of descriptors
        if filesystem.kind not in _TESTED:
            self._unfit.add(device)
            return None
        return filesystem


class Unwritten:
    """How much the kernel has yet to write to disks, of all that was written to files."""

    def __init__(self) -> None:
        try:
            self._file: int | None = os.open(_MEMORY, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = None

    def octets(self) -> int | None:
        """Return how many, or None where the kernel does not say."""
        if self._file is None:
            return None
        text = os.pread(self._file, 4096, 0)
        return _kibibytes(text, b"Dirty:") + _kibibytes(text, b"Writeback:")


def _kibibytes(text: bytes, name: bytes) -> int:
    """The figure behind this name, in octets; 0 if there is none."""
    _, found, rest = text.partition(b"\n" + name)
    return int(rest.split(None, 1)[0]) << 10 if found else 0
