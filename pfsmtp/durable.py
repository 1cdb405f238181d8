"""Files that are on disk when the call returns; the door of `ext/durable.pyx`.

What it does: make a file in one directory, sync it, rename it into another without replacing
anything there, and sync that directory, once for all threads that wait for it (group commit).
Directories are made, private to this user, when they are missing; their own entries are synced.

What it leaves to others: names, what is in the files, and what becomes of them. How it fails:
with `OSError`, and nothing left behind; see `_durable.pyi`, which documents each function.
"""

from __future__ import annotations

import os
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
    """Open `name` in `parent`, made when it is missing, and see that its entry is on disk.

    `now` is in Unix seconds; `filesystem` is as for `Directory`, and for the opened one only.
    """
    try:
        os.mkdir(name, PRIVATE, dir_fd=parent.fd)
        made = True
    except FileExistsError:
        made = False
    directory = Directory(name, parent=parent, filesystem=filesystem)
    if made or _is_young(directory, parent, now):
        parent.sync()
    return directory


def make_path(path: Path, *, now: float) -> Directory:
    """Open the absolute `path`, made with all that leads to it, each entry on disk.

    Symbolic links on the way are followed: the path is the operator's.
    """
    try:
        return Directory(path, follow=True)
    except FileNotFoundError:
        return make_directory(path.name, parent=make_path(path.parent, now=now), now=now)


def _is_young(directory: Directory, parent: Directory, now: float) -> bool:
    """Whether its entry may not be on disk yet: another process may have made it just now.

    An entry is never younger than the last change of both.
    """
    return max(now - directory.changed, now - parent.changed) < SETTLED
