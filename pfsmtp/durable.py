"""Files that are on disk when the call returns; the door of `ext/durable.pyx`.

What it does: make a file in one directory, sync it, rename it into another without replacing
anything there, and sync that directory, once for all threads that wait for it (group commit).
Directories are made, private to this user, when they are missing; their own entries are synced.

What it leaves to others: names, what is in the files, and what becomes of them. How it fails: with
`OSError`, and nothing left behind; see `_durable.pyi`, which documents each function.
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
"""Seconds after which what another process did to a directory is taken to be on disk."""


def make_directory(
    name: str,
    *,
    parent: Directory,
    now: float,
    filesystem: Filesystem | None = None,
) -> Directory:
    """Open `name` in `parent`, made when it is missing, and see that its entry is on disk.

    `now` is in Unix seconds. Another process may have made it a moment ago and not have synced
    it yet: so whatever changed lately is synced, whoever made it.
    """
    made = _make(name, parent)
    directory = Directory(name, parent=parent, filesystem=filesystem)
    if made or abs(now - directory.changed) < SETTLED:
        parent.sync()
    return directory


def make_path(path: Path, *, now: float, filesystem: Filesystem | None = None) -> Directory:
    """Open the absolute `path`, made with what leads to it, each entry on disk.

    Symbolic links on the way are followed: the path is the operator's.
    """
    try:
        directory = Directory(path, follow=True, filesystem=filesystem)
    except FileNotFoundError:
        parent = make_path(path.parent, now=now)
        return make_directory(path.name, parent=parent, now=now, filesystem=filesystem)
    if abs(now - directory.changed) < SETTLED and path != path.parent:
        Directory(path.parent, follow=True).sync()
    return directory


def _make(name: str, parent: Directory) -> bool:
    try:
        os.mkdir(name, PRIVATE, dir_fd=parent.fd)
    except FileExistsError:
        return False
    return True
