"""Somebody else who uses the disk, and syncs nothing: so that there is always something unflushed.

Makes files, writes, renames and removes them; the kernel is asked to begin writing, and nobody
waits for it. What is lost of it is lost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random

_FILES = 8
_SIZES = (1000, 200_000)
_PAUSE = 0.01  # seconds


@contextmanager
def neighbour(directory: Path, random: Random) -> Iterator[None]:
    """Be there, in a directory that is made in this one."""
    over = threading.Event()
    home = directory / "neighbour"
    home.mkdir()
    thread = threading.Thread(target=_live, args=(home, random, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _live(home: Path, random: Random, over: threading.Event) -> None:
    for number in count():
        path = home / f"{number}"
        with path.open("wb", buffering=0) as file:
            file.write(random.randbytes(random.randint(*_SIZES)))
            # As a side effect, the kernel begins to write, but for what is too new.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        path.rename(home / f"{number % _FILES}.done")
        if over.wait(_PAUSE):
            return
