"""A message on its way into the queue, from its first octet to the moment it is safe.

Up to `SPILL` octets are kept in memory; a longer body goes to a file in `bodies/` as it comes. At
the commit the body's file, if any, is synced, then its directory; then the slot is written durably
in one step, which is when the message exists. Only then the deliverers are told.

Fails with DeliveryFailure, and then nothing is left: a slot that could not be written is wiped, a
body's file removed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from contextlib import suppress
from zlib import crc32

from pfsmtp import durable
from pfsmtp.mailqueue import slot, state
from pfsmtp.mailqueue.entry import text_of
from pfsmtp.mailqueue.failures import transient
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.handover import encode, owner_of
from pfsmtp.mailqueue.segment import MOST_UNITS, Kind, kind_for, offset_of, segment_of, store
from pfsmtp.mailqueue.slot import PAGE, Measures, Notice
from pfsmtp.smtp.envelope import Envelope
from pfsmtp.smtp.errors import DeliveryFailure, PermanentFailure
from pfsmtp.smtp.ports import Receipt

SPILL = 112 * 1024
"""Octets of a body that is kept in memory: with its envelope it fits a slot of 128 KiB."""

LONGEST_LINE = 998  # RFC 5322 §2.1.1

_TRIES = 8  # slots that somebody may be looking at


class Intake:
    """Implements `smtp.ports.Intake`."""

    __slots__ = (
        "_column",
        "_crc",
        "_eight_bit",
        "_envelope",
        "_file",
        "_files",
        "_held",
        "_long_lines",
        "_number",
        "_parts",
        "_size",
        "id",
    )

    def __init__(self, files: Files, envelope: Envelope) -> None:
        self._files = files
        self._envelope = envelope
        self._number = files.new_id()
        self.id = text_of(self._number)
        self._parts: list[bytes] = []
        self._held = 0  # octets in _parts
        self._size = 0
        self._crc = 0  # of what is in _file
        self._eight_bit = False
        self._long_lines = False
        self._column = 0  # octets of the last line so far
        self._file: durable.File | None = None

    def write(self, octets: bytes) -> None:
        self._look_at(octets)
        self._parts.append(octets)
        self._held += len(octets)
        self._size += len(octets)
        if self._held > SPILL:
            try:
                self._spill()
            except OSError as cause:
                self.abort()
                raise transient(cause) from cause

    def commit(self) -> Receipt:
        self._put()
        return Receipt(self.id)

    def abort(self) -> None:
        self._parts = []
        self._take_back()

    def _put(self, notice: Notice | None = None) -> int:
        """Make the message safe; return its place. Raises DeliveryFailure."""
        try:
            self._finish_body()
            return self._store(notice)
        except OSError as cause:
            self._take_back()
            raise transient(cause) from cause
        except DeliveryFailure:
            self._take_back()
            raise
        finally:
            self._parts = []

    def _store(self, notice: Notice | None) -> int:
        """Write the slot, and tell the deliverers. Raises OSError, PermanentFailure."""
        now = self._files.clock()
        units = slot.by_domain(self._envelope.recipients)
        if not 0 < len(units) < MOST_UNITS:
            raise PermanentFailure(5, 3, "Too many recipients")
        states = [
            state.begin(len(recipients), due=now, prepared=notice is not None)
            for recipients in units.values()
        ]
        head = slot.compose(
            self._number,
            self._envelope,
            units,
            states,
            measures=self._measures(),
            queued_at=now,
            notice=notice,
        )
        parts = self._parts if len(self._parts) <= 2 else [b"".join(self._parts)]
        size = len(head) + sum(map(len, parts))
        kind = kind_for(size)
        if kind is None:
            raise PermanentFailure(5, 3, "Too many recipients")
        parts = [head, *parts, bytes(-size % PAGE)]
        alone = next(iter(units)) if len(units) == 1 and notice is None else None
        place = self._fill(kind, parts, alone)
        if alone is None and notice is None:
            self._tell(place, units)
        return place

    def _fill(self, kind: Kind, parts: list[bytes], domain: str | None) -> int:
        """Write the message to a free slot, and tell the deliverer of the domain, if any."""
        vacancies, segments = self._files.vacancies, self._files.segments
        pipe = self._files.announcer.pipe_of(domain) if domain is not None else -1
        for _ in range(_TRIES):
            place = vacancies.take(kind)
            pen = -1
            try:
                self._before(place)
                record = encode(place, self._number, domain)
                pen = segments.take(segment_of(place))
                commit = segments.group_commit(segment_of(place))
                stored = store(pen, commit, offset_of(place), kind.size, parts, pipe, record)
            except BaseException:
                vacancies.written(place)
                segments.spoil(segment_of(place), pen)
                raise
            segments.give(segment_of(place), pen)
            vacancies.written(place)
            if stored:
                return place
        raise OSError(errno.EAGAIN, "every free slot is being looked at")

    def _before(self, place: int) -> None:
        """What is to be done before the slot is written."""

    def _tell(self, place: int, domains: Iterable[str]) -> None:
        """Tell the deliverers of all these domains to look at the slot."""
        announcer = self._files.announcer
        record = encode(place, self._number)
        for index in {owner_of(domain, announcer.deliverers) for domain in domains}:
            announcer.tell(index, record)

    def _measures(self) -> Measures:
        crc = self._crc
        for part in self._parts:
            crc = crc32(part, crc)
        return Measures(
            self._size,
            crc,
            eight_bit=self._eight_bit,
            long_lines=self._long_lines or self._column > LONGEST_LINE,
            outside=self._file is not None,
        )

    def _look_at(self, octets: bytes) -> None:
        """Note what a relay needs to know: octets above 127, and long lines."""
        if not octets.isascii():
            self._eight_bit = True
        if self._long_lines:
            return
        if self._column + len(octets) <= LONGEST_LINE:
            end = octets.rfind(b"\n")
            self._column = len(octets) - end - 1 if end >= 0 else self._column + len(octets)
            return
        lines = octets.split(b"\n")
        # The CR before each LF is counted, and does not count.
        longest = max(self._column + len(lines[0]), max(map(len, lines)))
        self._long_lines = longest > LONGEST_LINE + 1
        self._column = len(lines[-1]) + (self._column if len(lines) == 1 else 0)

    def _spill(self) -> None:
        """Write what is in memory to the body's own file."""
        if self._file is None:
            self._file = durable.File(self._files.bodies, self.id)
        for part in self._parts:
            self._crc = crc32(part, self._crc)
        self._file.write(self._parts)
        self._parts = []
        self._held = 0

    def _finish_body(self) -> None:
        """See that the body's own file is on disk, if it has one."""
        if self._file is None:
            return
        self._spill()
        self._file.sync()
        self._file.close()
        self._files.sync_bodies()

    def _take_back(self) -> None:
        """Remove the body's own file."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with suppress(OSError):
                durable.remove(self._files.bodies, self.id)
