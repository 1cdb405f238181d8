"""The file systems that Maildirs are on, to be synced as a whole (`syncfs`): when, and which.

With `[local] sync = "filesystem"` that is done for every message, and the operator has said that a
file system holds nothing but mail. Else it is done where many files and directories would be
synced at once, for one message or for several; but only while little else would be written for
it, and on file systems where the power was cut in tests (docs/decisions/0013).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from threading import Lock

from pfsmtp.durable import Directory, Filesystem

LITTLE = 128 << 20
"""Octets that a disk writes in about a second."""

LATELY = 0.02
"""Seconds for which what waits to be written is taken to be as much as it was."""

_TESTED = (0xEF53, 0x58465342)  # statfs(2): ext2 to ext4, XFS

_MEMORY = "/proc/meminfo"


class Filesystems:
    """Shared by all threads of a process; made anew after a sync that failed."""

    def __init__(
        self,
        unwritten: Callable[[], int | None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unwritten` says how many octets wait to be written, to any disk; None: not known."""
        self._unwritten = unwritten if unwritten is not None else Unwritten().octets
        self._clock = clock
        self._little = (float("-inf"), False)  # when it was asked, and what it said
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
        """What may be synced in place of each of these, given the directory of each copy.

        None: each is to be synced itself, or is with its file system in any case.
        """
        first = directories[0]
        if first.filesystem is not None or not self._is_little():
            return None
        device = first.device
        for each in directories:
            if each.device != device:
                return None
        if device in self._unfit:
            return None
        known = self._known.get(device)
        return known if known is not None and not known.failed else self._find(first)

    def _find(self, directory: Directory) -> Filesystem | None:
        """The file system of a directory, if it is fit to be synced in place of what is on it."""
        try:
            filesystem = self.of(directory)
        except OSError as error:
            if error.errno == errno.ENOSYS:  # before Linux 5.8
                self._unfit.add(directory.device)
            return None
        if filesystem.kind not in _TESTED:
            self._unfit.add(directory.device)
            return None
        return filesystem

    def _is_little(self) -> bool:
        """Whether little waits to be written."""
        now = self._clock()
        asked, little = self._little
        if now - asked > LATELY:
            unwritten = self._unwritten()
            little = unwritten is not None and unwritten <= LITTLE
            self._little = (now, little)
        return little


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
        try:
            text = os.pread(self._file, 4096, 0)
        except OSError:
            return None
        return _kibibytes(text, b"Dirty:") + _kibibytes(text, b"Writeback:")


def _kibibytes(text: bytes, name: bytes) -> int:
    """The figure behind this name, in octets; 0 if there is none."""
    _, found, rest = text.partition(b"\n" + name)
    return int(rest.split(None, 1)[0]) << 10 if found else 0
