"""Keeping the queue's files in order: what cannot be read is set aside, what nobody needs is
removed.

* A slot that makes no sense is copied to `damaged/`, with the body's file if it has one, then
  wiped and free. This is done under a lock on all of it, so that nothing is taken for damaged that
  is just being written. What could not be copied stays where it is.
* A file of slots that is shorter than it should be is given its length back, if there is room; a
  file of another name is moved to `damaged/`.
* Files whose slots are all free are removed, but for some, once they have no owner.
* Files in `tmp/` and `bodies/` that belong to nothing are removed after `ABANDONED` seconds.

Every step may be broken off by a crash, and is then begun anew. Fails with OSError.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress

from pfsmtp import durable
from pfsmtp.mailqueue import slot
from pfsmtp.mailqueue.body import FileBody, SlotBody
from pfsmtp.mailqueue.entry import text_of
from pfsmtp.mailqueue.files import Files, open_body
from pfsmtp.mailqueue.segment import (
    KINDS,
    Kind,
    kind_of,
    lock,
    name_of,
    offset_of,
    segment_of,
    slot_of,
    write,
)
from pfsmtp.mailqueue.slot import EMPTY, Damage, Head
from pfsmtp.mailqueue.survey import messages

ABANDONED = 36 * 3600.0
"""Seconds after which a file that belongs to nothing is removed; no session lasts as long."""

_STEP = 1 << 20  # octets

SPARE = 4
"""Files of free slots without an owner that are kept, of each kind."""


def check_body(files: Files, head: Head, octets: bytes) -> SlotBody | FileBody:
    """Open the body of a message, and see that it is whole. Raises Damage, OSError.

    `octets` are those from `body_at` to `end` of the slot.
    """
    measures = head.measures
    if not measures.outside:
        return SlotBody(octets, measures)
    try:
        fd = open_body(files, head.id)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise Damage("the file of the body is gone") from None
        raise
    return FileBody(fd, measures)


def set_aside(files: Files, place: int) -> bool:
    """Set a slot aside if it is damaged and nobody is at it; whether it was. Raises OSError."""
    segment = segment_of(place)
    kind = kind_of(segment)
    offset = offset_of(place)
    with files.segments.pen(segment) as pen:
        if not lock(pen, offset, kind.size):
            return False
        octets = os.pread(pen, kind.size, offset)
        why, id = _examine(files, memoryview(octets))
        if not why:
            return False
        name = f"{name_of(segment).replace('/', '-')}-{slot_of(place)}-{os.urandom(4).hex()}"
        durable.store(files.damaged, name, [octets])
        if id is not None:
            with suppress(FileNotFoundError):
                durable.move(files.bodies, text_of(id), files.damaged, f"{name}-body")
        files.damaged.sync()
        write(pen, files.segments.group_commit(segment), offset, EMPTY)
    files.log.event("queue-damaged", file=f"damaged/{name}", reason=why)
    return True


def _examine(files: Files, octets: memoryview) -> tuple[str, int | None]:
    """What is wrong with a slot, "" if nothing; and its id, if its body is in a file."""
    outside: int | None = None
    try:
        slot.reach(octets)
        if slot.is_empty(octets):
            return "", None
        head = Head(octets)
        outside = head.id if head.measures.outside else None
        if not slot.is_free(octets):
            for number in range(head.units):
                unit = head.unit(number)
                block = unit.block(octets)
                slot.entry_of(head, unit, block, unit.state(block))
            check_body(files, head, bytes(octets[head.body_at : head.end])).close()
    except Damage as damage:
        return str(damage), outside
    return "", outside


def restore_files(files: Files) -> None:
    """Give short files their length back, and move foreign ones away."""
    segments = files.segments
    for kind in KINDS:
        directory = segments.directory(kind)
        for name in segments.foreign(kind):
            aside = f"{kind.name}-{name}-{os.urandom(4).hex()}"
            with suppress(FileNotFoundError):
                durable.move(directory, name, files.damaged, aside)
                files.log.event("queue-file-foreign", file=f"damaged/{aside}")
        for segment in segments.existing(kind):
            try:
                _restore_length(files, segment, kind.size * kind.count)
            except FileNotFoundError:
                pass
            except OSError as error:
                # Slots that a file lacks are left out. What is in the others does not wait.
                files.log.event("queue-trouble", file=name_of(segment), reason=str(error))


def _restore_length(files: Files, segment: int, length: int) -> None:
    with files.segments.pen(segment) as pen:
        found = at = os.fstat(pen).st_size
        if found < length:
            # Octets, as the file was made of: a hole has no blocks. A worker may not truncate.
            while at < length:
                at += os.pwrite(pen, bytes(min(length - at, _STEP)), at)
            os.fsync(pen)
            files.log.event("queue-file-short", file=name_of(segment), size=found, wanted=length)


def remove_spare(files: Files, candidates: Iterable[int]) -> None:
    """Remove all but `SPARE` files of each kind among those that seem to have free slots only."""
    newest = {existing[-1] for kind in KINDS if (existing := files.segments.existing(kind))}
    kept: Counter[Kind] = Counter()
    for segment in candidates:
        # The highest number stays, so that it is not given again.
        if segment in newest:
            continue
        owner = files.segments.adopt(segment)
        if owner is None:
            continue
        try:
            kept[kind_of(segment)] += 1
            if kept[kind_of(segment)] > SPARE and _is_all_free(files, segment):
                files.segments.remove(segment)
        finally:
            os.close(owner)


def sweep(files: Files, bodies: Collection[int], *, now: float) -> None:
    """Remove old files in `tmp/`, and old bodies but for those of these messages."""
    wanted = {text_of(id) for id in bodies}
    for directory in (files.tmp, files.bodies):
        for name in os.listdir(directory.fd):
            with suppress(FileNotFoundError):
                stat = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                if stat.st_mtime < now - ABANDONED and name not in wanted:
                    os.unlink(name, dir_fd=directory.fd)
                    files.log.event("queue-file-abandoned", file=name, size=stat.st_size)


def _is_all_free(files: Files, segment: int) -> bool:
    """Whether no slot is in use; the caller is the file's owner, so none comes into use."""
    unclear: list[int] = []
    for _, octets, _ in messages(files.segments, segment, lambda place, _: unclear.append(place)):
        if unclear or not slot.is_free(octets):
            return False
    return not unclear
