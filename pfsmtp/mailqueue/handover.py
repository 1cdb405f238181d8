"""How deliverers hear of mail at once: a FIFO each, in `handover/`, with records of one size.

Whoever put a message, or changed a unit, tells the deliverer that owns the domain. Everybody can:
a worker, another deliverer, the operator's command in a process of its own. The FIFOs are found by
name, so they are the same for all generations of a server, and it is known by them whether one
runs.

A record is a hint and no more: what holds is on disk. So nothing is lost that matters when one is
lost, but the deliverer has to read the whole queue then, and must know:

* It did not run: it reads everything when it starts, after it has opened its FIFO.
* The FIFO was full: who reads it empties it, and so sees that it was.
* Who was to tell it was killed: whoever hears of that death sends a record that says so.

Deliverer `i` of `n` owns the domains whose checksum is `i` modulo `n`.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from msgspec import Struct

from pfsmtp import durable
from pfsmtp.mailqueue.entry import Wish

RECORD = 256
"""Octets of a record: a divisor of a page, so that a FIFO of whole pages is filled by whole
records; and less than PIPE_BUF, so that each is written at once or not at all."""

_FRONT = struct.Struct("<QQB")
_LONGEST_DOMAIN = RECORD - _FRONT.size
_WISHES = dict(enumerate(Wish, _LONGEST_DOMAIN + 1))  # in place of the length of a domain
_MARKS = {wish: mark for mark, wish in _WISHES.items()}
_LOST = 255  # the mark of a record that tells of others, which may never have been written
_ROOM = 1 << 20  # asked for; a system may give less


class Hint(Struct, frozen=True, gc=False):
    """Look at this place, if the message of that id is there."""

    place: int
    id: int
    domain: str | None  # that of a unit that is new and due; None: look at all in the slot
    wish: Wish | None = None  # of the operator, about this unit


def owner_of(domain: str, deliverers: int) -> int:
    """Which of so many deliverers owns the domain, in lower case."""
    return crc32(domain.encode()) % deliverers if deliverers > 1 else 0


def encode(place: int, id: int, domain: str | None = None, *, wish: Wish | None = None) -> bytes:
    """Return the record of a hint; with a wish, it has no domain."""
    octets = domain.encode() if domain else b""
    if len(octets) > _LONGEST_DOMAIN:
        octets = b""
    mark = len(octets) if wish is None else _MARKS[wish]
    return (_FRONT.pack(place, id, mark) + octets).ljust(RECORD, b"\0")


class Announcer:
    """The writing ends. Safe among threads; never waits."""

    def __init__(self, directory: durable.Directory, deliverers: int) -> None:
        """Open the FIFOs of so many deliverers, made when missing. Raises OSError."""
        self.pipes: list[int] = []
        try:
            for index in range(deliverers):
                self.pipes.append(_open(directory, index))
        except BaseException:
            self.close()
            raise

    @property
    def deliverers(self) -> int:
        return len(self.pipes)

    def pipe_of(self, domain: str) -> int:
        """The descriptor to write a hint to about this domain, in lower case."""
        return self.pipes[owner_of(domain, len(self.pipes))]

    def tell(self, index: int, record: bytes) -> bool:
        """Write a record; False when that cannot be done now.

        When the FIFO is full, its reader will see it. Whatever else it is, what the record is about
        is on disk, where it is found in time.
        """
        try:
            return os.write(self.pipes[index], record) == len(record)
        except OSError:
            return False

    def tell_owner(self, domain: str, record: bytes) -> bool:
        return self.tell(owner_of(domain, len(self.pipes)), record)

    def tell_all(self, record: bytes) -> None:
        for index in range(len(self.pipes)):
            self.tell(index, record)

    def close(self) -> None:
        """Close them, when no thread writes to one any more."""
        for pipe in self.pipes:
            os.close(pipe)
        self.pipes.clear()


class Inbox:
    """The reading end of one deliverer."""

    def __init__(self, directory: durable.Directory, index: int) -> None:
        """Open the FIFO, made when missing. Raises OSError."""
        self.fd = -1
        self.fd = _open(directory, index)
        with suppress(OSError):
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _ROOM)
        self._octets = bytearray(fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ))
        self.overflowed = False
        """A record may have been lost since this was last set to False."""

    def read(self) -> Iterator[Hint]:
        """Read what is there; does not wait."""
        octets = self._octets
        try:
            size = os.readv(self.fd, [octets])
        except BlockingIOError:
            return
        if size > len(octets) - RECORD:
            self.overflowed = True
        for at in range(0, size - RECORD + 1, RECORD):
            place, id, mark = _FRONT.unpack_from(octets, at)
            if mark == _LOST:
                self.overflowed = True
                continue
            length = mark if mark <= _LONGEST_DOMAIN else 0
            domain = octets[at + _FRONT.size : at + _FRONT.size + length]
            text = domain.decode("utf-8", "replace") if length else None
            yield Hint(place, id, text, _WISHES.get(mark))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()


def tell_of_death(queue: Path) -> None:
    """Have the deliverers that run read all of the queue, since hints may have died with somebody.

    For who has nothing of the queue open. Raises OSError when its FIFOs cannot be had.
    """
    directory = durable.Directory("handover", parent=durable.Directory(queue, follow=True))
    announcer = Announcer(directory, deliverers_in(directory))
    try:
        announcer.tell_all(_FRONT.pack(0, 0, _LOST).ljust(RECORD, b"\0"))
    finally:
        announcer.close()


def deliverers_in(directory: durable.Directory) -> int:
    """How many deliverers have FIFOs here, whether they run or not."""
    names = set(os.listdir(directory.fd))
    return next(index for index in itertools.count() if str(index) not in names)


def _open(directory: durable.Directory, index: int) -> int:
    """Open a FIFO for reading and writing: so that it has a reader and a writer at any time."""
    name = str(index)
    with suppress(FileExistsError):
        os.mkfifo(name, 0o600, dir_fd=directory.fd)
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(name, flags, dir_fd=directory.fd)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a FIFO", name)
    return fd
