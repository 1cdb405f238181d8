"""Files that are on disk when the call returns; the door of `ext/durable.pyx`.

What it does: make a file in one directory, sync it, rename it into another without replacing
anything there, and sync that directory, once for all threads that wait for it (group commit).
Directories are made, private to this user, when they are missing; their own entries are synced.

What it leaves to others: names, what is in the files, and what becomes of them. How it fails:
with `OSError`, and nothing left behind; see `_durable.pyi`, which documents each function.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pfsmtp._durable import (
    Directory,
    File,
    Filesystem,
    deliver,
    deliver_all,
    move,
    publish,
    remove,
    store,
)

__all__ = [
    "Directory",
    "File",
    "Filesystem",
    "deliver",
    "deliver_all",
    "make_directory",
    "make_entries",
    "make_path",
    "move",
    "publish",
    "remove",
    "store",
]

PRIVATE = 0o700

SETTLED = 3600.0
"""Seconds after which an entry that another process made is taken to be on disk."""


def make_directory(
    name: str, *, parent: Directory, now: float, filesystem: Filesystem | None = None
) -> Directory:
    """Open `name` in `parent`, made when it is missing, its entry on disk.

    `now` is in Unix seconds; `filesystem` is as for `Directory`, and for the opened one only.
    """
    make_entries([name], parent=parent, now=now)
    return Directory(name, parent=parent, filesystem=filesystem)


def make_entries(names: Sequence[str], *, parent: Directory, now: float) -> None:
    """Make the directories `names` in `parent` that are missing, and see that all are on disk.

    What else may bear such a name is left as it is.
    """
    made = [name for name in names if _make(name, parent)]
    if made or any(_is_young(name, parent, now) for name in names):
        parent.sync()


def make_path(path: Path, *, now: float) -> Directory:
    """Open the absolute `path`, made with all that leads to it, each entry on disk.

    Symbolic links on the way are followed: the path is the operator's.
    """
    try:
        return Directory(path, follow=True)
    except FileNotFoundError:
        return make_directory(path.name, parent=make_path(path.parent, now=now), now=now)


def _make(name: str, parent: Directory) -> bool:
    try:
        os.mkdir(name, PRIVATE, dir_fd=parent.fd)
    except FileExistsError:
        return False
    return True


def _is_young(name: str, parent: Directory, now: float) -> bool:
    """Whether its entry may not be on disk yet: another process may have made it just now.

    An entry is never younger than the last change of its directory, or of what it leads to.
    """
    if now - parent.changed >= SETTLED:
        return False
    found = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
    return now - found.st_ctime < SETTLED
