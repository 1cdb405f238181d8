"""A directory to stage files in and one to show them in, and the system calls they are about."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pfsmtp import durable
from pfsmtp.durable import Directory, Filesystem

FILES = ("openat", "writev", "fsync", "syncfs", "renameat2", "linkat", "unlinkat")


class Box:
    """Directories `tmp` and `new`, and what is in them.

    `instead` is what deliveries may sync in place of each.
    """

    def __init__(self, path: Path, filesystem: Filesystem | None = None) -> None:
        self.path = path
        for name in ("tmp", "new"):
            (path / name).mkdir(parents=True, exist_ok=True)
        self.tmp = Directory(path / "tmp", filesystem=filesystem)
        self.new = Directory(path / "new", filesystem=filesystem)
        self.instead: Filesystem | None = None

    def shown(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (self.path / "new").iterdir()}

    def staged(self) -> list[str]:
        return sorted(os.listdir(self.path / "tmp"))

    def deliver(self, name: str = "a", octets: bytes = b"message") -> None:
        durable.deliver_all([(self.tmp, name, [octets], self.new)], self.instead)


def to_all(boxes: list[Box], instead: Filesystem | None = None) -> Callable[[], None]:
    deliveries = [(box.tmp, "a", [b"message"], box.new) for box in boxes]
    return lambda: durable.deliver_all(deliveries, instead)
