"""The users' Maildirs, opened: made when missing, never left by way of a link, and kept open.

A path comes from the operator's template and a login of the user map. What is before `{login}` is
the operator's, links and all; from there on it may be the user's, who may have put anything
there: no symbolic link is followed, all must be directories, and `new`, `tmp` and the Maildir on
the file system of the Maildir's parent. Else, and for whatever the system says, opening fails
with `OSError`.

Descriptors of `tmp/` and `new/` are kept for the logins that got mail last. A Maildir that was
deleted is noticed by its next delivery (`ENOENT`), which asks to `forget` it; one that was
renamed, or replaced by another, after `TRUSTED` seconds: so long mail may still go to the one
that has moved.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from threading import Lock

from pfsmtp.delivery.maildir.filesystems import Filesystems
from pfsmtp.delivery.maildir.sweep import INTERVAL, sweep
from pfsmtp.durable import Directory, Filesystem, make_directory, make_entries, make_path

TRUSTED = 1.0
"""Seconds for which a path is taken to lead where it led before."""

LOGIN = "{login}"

_ENTRIES = ("tmp", "new", "cur")
"""What readers expect in a Maildir; nothing of ours goes into `cur`."""


@dataclass(slots=True, eq=False)
class Maildir:
    """One user's Maildir; `checked` and `swept` are in seconds of the monotonic clock."""

    path: str
    tmp: Directory
    new: Directory
    inode: int
    checked: float
    swept: float

    def stands(self) -> bool:
        """Whether its path still leads to it, and no sync of it has failed."""
        if self.new.failed:
            return False
        try:
            return (
                _identity(self.path) == (self.new.device, self.inode)
                and _identity(f"{self.path}/tmp") == (self.tmp.device, self.tmp.inode)
                and _identity(f"{self.path}/new") == (self.new.device, self.new.inode)
            )
        except OSError:
            return False


class Maildirs:
    """Opens Maildirs by login, and keeps `room` of them open; for all threads of one process."""

    def __init__(
        self,
        template: str,
        *,
        whole_filesystem: bool,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        room: int = 256,
    ) -> None:
        self.base, self._below = _split(template)
        self._whole = whole_filesystem
        self._clock = clock
        self._monotonic = monotonic
        self._room = room
        self._open: dict[str, Maildir] = {}
        self._filesystems = Filesystems(clock=monotonic)
        self._changing = Lock()

    def open(self, login: str) -> Maildir:
        """The Maildir of `login`, made when it is missing. Raises OSError."""
        now = self._monotonic()
        known = self._open.get(login)
        if known is not None and now - known.checked < TRUSTED and not known.new.failed:
            return known
        if known is None or not known.stands():
            known = self._open_path(login, now)
            self._keep(login, known)
        elif now - known.swept > INTERVAL:
            known.swept = now
            sweep(known.tmp, self._clock())
        known.checked = now
        return known

    def filesystem_of(self, directories: Sequence[Directory]) -> Filesystem | None:
        """What may be synced in place of each `new/`, for one message; None: each itself."""
        return self._filesystems.instead_of(directories)

    def forget(self, logins: Iterable[str]) -> None:
        """Open the Maildirs of these anew next time."""
        with self._changing:
            for login in logins:
                self._open.pop(login, None)

    def forget_all(self) -> None:
        """Give back all descriptors that no delivery is using."""
        with self._changing:
            self._open.clear()

    def _keep(self, login: str, maildir: Maildir) -> None:
        with self._changing:
            if len(self._open) >= self._room:
                # Seldom, so an eighth at a time; whoever is delivering there keeps it open.
                oldest = sorted(self._open, key=lambda each: self._open[each].checked)
                for each in oldest[: self._room // 8 + 1]:
                    del self._open[each]
            self._open[login] = maildir

    def _open_path(self, login: str, monotonic: float) -> Maildir:
        now = self._clock()
        parent = maildir = make_path(self.base, now=now)
        path = str(self.base)
        for part in self._below:
            name = _component(part, login)
            path = f"{path}/{name}"
            parent, maildir = maildir, make_directory(name, parent=maildir, now=now)
        if maildir.device != parent.device:
            raise OSError(errno.EXDEV, "a Maildir on another file system", path)
        make_entries(_ENTRIES, parent=maildir, now=now)
        filesystem = self._filesystems.of(maildir) if self._whole else None
        tmp = Directory("tmp", parent=maildir, filesystem=filesystem)
        new = Directory("new", parent=maildir, filesystem=filesystem)
        if not tmp.device == new.device == maildir.device:
            raise OSError(errno.EXDEV, "tmp or new on another file system", path)
        sweep(tmp, now)
        return Maildir(path, tmp, new, maildir.inode, checked=monotonic, swept=monotonic)


def base_of(template: str) -> Path:
    """The directory that holds the Maildirs of all, as the template says; raises ValueError."""
    return _split(template)[0]


def _split(template: str) -> tuple[Path, tuple[str, ...]]:
    """What is the operator's of the path of a Maildir, and what may be its user's."""
    parts = PurePath(template).parts
    below = next((i for i, part in enumerate(parts) if LOGIN in part), 0)
    if not below or not os.path.isabs(template) or ".." in parts[below:]:
        raise ValueError(f"not an absolute path with {LOGIN} in it: {template!r}")
    return Path(*parts[:below]), parts[below:]


def _component(part: str, login: str) -> str:
    """One component of the template for `login`, which must not lead anywhere else."""
    name = part.replace(LOGIN, login)
    if name in (".", "..") or not login or "/" in login or "\0" in login:
        raise OSError(errno.EINVAL, "a login that is no name of a directory", login)
    return name


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path, follow_symlinks=False)
    return found.st_dev, found.st_ino
