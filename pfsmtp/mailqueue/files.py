"""The directory of a queue, and what one process has open of it.

lock         held by the master of the server whose queue it is (`guard`)
slots/       messages (`segment`)
bodies/      bodies too large for a slot, by the id of their message
handover/    a FIFO for each deliverer (`handover`)
damaged/     what could not be read any more (`upkeep`)
tmp/         files that do not count yet
resting.N    what deliverer N leaves alone for now (`resting`)
deeds.*      what operators have done, and is still to be logged (`deeds`)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pfsmtp import durable
from pfsmtp.mailqueue.backend import EventLog
from pfsmtp.mailqueue.entry import text_of
from pfsmtp.mailqueue.handover import Announcer, deliverers_in
from pfsmtp.mailqueue.segment import Segments
from pfsmtp.mailqueue.vacancies import Vacancies

_DIRECTORIES = ("slots", "bodies", "handover", "damaged", "tmp")


class Files:
    """A queue as one process sees it; made in that process, never taken through a fork."""

    def __init__(
        self,
        path: Path,
        *,
        deliverers: int | None,
        log: EventLog,
        clock: Callable[[], float],
        number: Callable[[], int],
        random: Callable[[int], bytes],
        only_reading: bool = False,
    ) -> None:
        """Open the directories, made when missing unless it is only to read them. Raises OSError.

        Files that were opened for reading cannot be written to. `deliverers` is how many there
        are; None stands for those that have been there so far.
        """
        now = clock()
        if only_reading:
            root = durable.Directory(path, follow=True)
            opened = [durable.Directory(name, parent=root) for name in _DIRECTORIES]
        else:
            root = durable.make_path(path, now=now)
            opened = [durable.make_directory(name, parent=root, now=now) for name in _DIRECTORIES]
        slots, bodies, handover, damaged, tmp = opened
        self.log = log
        self.clock = clock
        self.root = root
        self.bodies = bodies
        self.damaged = damaged
        self.tmp = tmp
        self.handover = handover
        self.segments = Segments(slots, tmp, now=now, only_reading=only_reading)
        self.vacancies = Vacancies(self.segments)
        if deliverers is None:
            deliverers = deliverers_in(handover)
        self.announcer = Announcer(handover, deliverers)
        self._number = number
        self._random = random

    def new_id(self) -> int:
        """An id that no other message has: the second, a counter of all processes, and chance."""
        chance = int.from_bytes(self._random(2), "little")
        return first_id(self.clock()) | (self._number() & 0xFFFF) << 16 | chance

    def sync_bodies(self) -> None:
        """See that the entries of `bodies/` are on disk. Raises OSError."""
        try:
            self.bodies.sync()
        except OSError:
            # A directory whose sync has failed says so for ever; it may be well with another.
            self.bodies = durable.Directory("bodies", parent=self.root)
            raise

    def close(self) -> None:
        self.vacancies.close()
        self.announcer.close()
        self.segments.close()


def first_id(now: float) -> int:
    """The lowest id that a message of this second may have."""
    return int(now) << 32


def open_body(files: Files, id: int) -> int:
    """Open the body of a message that has a file of its own."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.open(text_of(id), flags, dir_fd=files.bodies.fd)
