"""One server for one queue: the lock its master holds as long as it lives.

The lock is the process's own (fcntl), not inherited: workers that outlive a master which was
killed do not keep the next server from starting. That does no harm: what they still work on, they
have leases for.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from pfsmtp import durable

_NAME = "lock"
_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


class QueueInUse(Exception):
    """Another server has this queue; the text is for the operator."""


class Guard:
    """The lock on a queue's directory; held until `close`, or the end of the process."""

    def __init__(self, path: Path, *, now: float, owner: tuple[int, int] | None = None) -> None:
        """Take the lock on `path`, made when missing. Raises QueueInUse, OSError.

        `owner` is the user and group who are given what root makes here.
        """
        directory = durable.make_path(path, now=now)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(_NAME, flags, 0o600, dir_fd=directory.fd)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise QueueInUse(
                f"the queue {path} is in use by the server with process id {holder or 'unknown'}"
            ) from None
        try:
            if owner is not None and os.geteuid() == 0:
                os.fchown(directory.fd, *owner)
                os.fchown(self._fd, *owner)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        os.close(self._fd)


def holder(path: Path) -> int | None:
    """The process id of the server that has the queue in `path`; None if none does.

    Takes no lock. Raises OSError, FileNotFoundError where no server ever was.
    """
    fd = os.open(path / _NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else pid
