"""Small file systems of their own, to be filled, set read-only, or put where they do not belong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import needs


@contextmanager
def tmpfs(where: Path, options: str = "size=1m") -> Iterator[Path]:
    """A tmpfs mounted on `where`, which is made when missing."""
    with _mounted(where, "-t", "tmpfs", "-o", options, "tmpfs"):
        yield where


@contextmanager
def ext4(where: Path) -> Iterator[Path]:
    """An ext4 in a file beside `where`, mounted there."""
    image = where.with_suffix(".ext4")
    image.touch()
    os.truncate(image, 16 << 20)
    subprocess.run([needs.tool("mkfs.ext4"), "-q", "-F", image], check=True)
    with _mounted(where, "-o", "loop", str(image)):
        yield where


@contextmanager
def _mounted(where: Path, *what: str) -> Iterator[None]:
    needs.root()
    where.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", *what, where], capture_output=True, text=True)
    if mounted.returncode:
        needs.lacking(f"cannot mount {what[-1]}: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def remount(where: Path, options: str) -> None:
    """Change what a mounted file system lets be done."""
    subprocess.run(["mount", "-o", f"remount,{options}", where], check=True)


def fill(where: Path, spare: int = 0) -> Path:
    """Write until the disk is full, then give `spare` octets back; returns the file in the way."""
    filler = where / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            size = file.tell()
        file.truncate(max(0, size - spare))
    return filler
