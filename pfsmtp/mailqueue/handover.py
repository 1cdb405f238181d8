"""How deliverers hear of mail at once: a FIFO each, in `handover/`, with records of one size.

Whoever put a message, or changed a unit, tells the deliverer that owns the domain. Everybody can:
a worker, another deliverer, the operator's command in a process of its own. The FIFOs are found by
name, so they are the same for all generations of a server, and it is known by them whether one
runs.

A record is a hint and no more: what holds is on disk. So nothing is lost that matters when one is
lost, but the deliverer has to look at the whole queue then, and must know:

* It did not run: it looks at everything when it starts, after it has opened its FIFO.
* The FIFO was full: who reads it empties it, and so sees that it was.

Deliverer `i` of `n` owns the domains whose checksum is `i` modulo `n`.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from zlib import crc32

from pfsmtp import durable

RECORD = 256
"""Octets of a record: a divisor of a page, so that a FIFO of whole pages is filled by whole
records; and less than PIPE_BUF, so that each is written at once or not at all."""

_FRONT = struct.Struct("<QQB")
_LONGEST_DOMAIN = RECORD - _FRONT.size
_ROOM = 1 << 20  # asked for; a system may give less


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at this place, if the message of that id is there."""

    place: int
    id: int
    domain: str | None  # that of a unit that is new and due; None: look at all in the slot


def owner_of(domain: str, deliverers: int) -> int:
    """Which of so many deliverers owns the domain, in lower case."""
    return crc32(domain.encode()) % deliverers if deliverers > 1 else 0


def encode(place: int, id: int, domain: str | None = None) -> bytes:
    """Return the record of a hint."""
    octets = domain.encode() if domain else b""
    if len(octets) > _LONGEST_DOMAIN:
        octets = b""
    return (_FRONT.pack(place, id, len(octets)) + octets).ljust(RECORD, b"\0")


class Announcer:
    """The writing ends. Safe among threads."""

    def __init__(self, directory: durable.Directory, deliverers: int) -> None:
        self._directory = directory
        self._pipes = [-1] * deliverers
        self._lock = threading.Lock()

    @property
    def deliverers(self) -> int:
        return len(self._pipes)

    def pipe(self, index: int) -> int:
        """Return the descriptor for that deliverer, -1 when it does not run."""
        pipe = self._pipes[index]
        return pipe if pipe >= 0 else self._open(index)

    def pipe_of(self, domain: str) -> int:
        """As `pipe`, for the deliverer that owns the domain."""
        return self.pipe(owner_of(domain, len(self._pipes)))

    def tell(self, index: int, record: bytes) -> bool:
        """Write a record; whether it was taken."""
        pipe = self.pipe(index)
        if pipe < 0:
            return False
        try:
            return os.write(pipe, record) == len(record)
        except (BlockingIOError, BrokenPipeError):
            # Full, which its reader will see; or without one, and the next reads everything.
            return False

    def tell_owner(self, domain: str, record: bytes) -> bool:
        return self.tell(owner_of(domain, len(self._pipes)), record)

    def tell_all(self, record: bytes) -> None:
        for index in range(len(self._pipes)):
            self.tell(index, record)

    def close(self) -> None:
        """Close them; not before, since other threads may be about to write to one.

        One whose reader has died serves the next reader as well.
        """
        with self._lock:
            for index, pipe in enumerate(self._pipes):
                if pipe >= 0:
                    os.close(pipe)
                self._pipes[index] = -1

    def _open(self, index: int) -> int:
        with self._lock:
            if self._pipes[index] < 0:
                with suppress(OSError):
                    self._pipes[index] = os.open(
                        str(index),
                        os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW,
                        dir_fd=self._directory.fd,
                    )
            return self._pipes[index]


class Inbox:
    """The reading end of one deliverer."""

    def __init__(self, directory: durable.Directory, index: int) -> None:
        """Open the FIFO, made when missing. Raises OSError."""
        name = str(index)
        with suppress(FileExistsError):
            os.mkfifo(name, 0o600, dir_fd=directory.fd)
        # Open for writing as well: it does not count as ended when nobody else writes.
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        self.fd = os.open(name, flags, dir_fd=directory.fd)
        with suppress(OSError):
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _ROOM)
        self._room: int = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)
        self.overflowed = False
        """A record may have been lost since this was last set to False."""

    def read(self) -> Iterator[Hint]:
        """Read what is there; does not wait."""
        try:
            octets = os.read(self.fd, self._room)
        except BlockingIOError:
            return
        if len(octets) > self._room - RECORD:
            self.overflowed = True
        for at in range(0, len(octets) - RECORD + 1, RECORD):
            place, id, length = _FRONT.unpack_from(octets, at)
            domain = octets[at + _FRONT.size : at + _FRONT.size + length]
            yield Hint(place, id, domain.decode("utf-8", "replace") if length else None)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
