"""One message on its way into Maildirs, from its first octet to the last rename.

A message of up to `MOST_IN_MEMORY` octets waits in memory and becomes files in one compiled call.
A larger one goes into the first recipient's `tmp/` as it arrives, as many octets at a time, and the
other copies are made from there by the kernel, each behind header fields of its own.

All recipients get it or none. Where a Maildir was deleted under our descriptors, or a name was
taken, all is undone, and tried once more from the start; whatever else the system says is a
`TransientFailure`, and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from msgspec import Struct

from pfsmtp.delivery.maildir.directories import Maildir, Maildirs
from pfsmtp.delivery.maildir.failures import transient, wants_descriptors
from pfsmtp.delivery.maildir.names import Names
from pfsmtp.durable import File, deliver_all, publish, remove
from pfsmtp.message import trace
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Origin
from pfsmtp.smtp.ports import Receipt

LINE_END = b"\n"

MOST_IN_MEMORY = 512 << 10
"""Octets. What is written in large pieces is kept by the kernel in large pieces, too."""

_Result = TypeVar("_Result")


class Copy(Struct, frozen=True):
    """One file to be made: for this address, in the Maildir of this login."""

    mailbox: Mailbox
    login: str


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the intakes of a process share; `clock` is in Unix seconds."""

    maildirs: Maildirs
    names: Names
    dates: trace.Dates
    clock: Callable[[], float]


class _Place(Struct, frozen=True):
    """Where a copy is staged, and then shown."""

    maildir: Maildir
    name: str

    @property
    def path(self) -> str:
        return f"{self.maildir.path}/new/{self.name}"


class MaildirIntake:
    """Implements `smtp.ports.Intake`."""

    __slots__ = (
        "_chunks",
        "_copies",
        "_envelope",
        "_file",
        "_first",
        "_held",
        "_origin",
        "_shop",
        "_start",
        "_trace",
        "id",
    )

    def __init__(
        self, shop: Workshop, envelope: Envelope, *, origin: Origin, copies: list[Copy]
    ) -> None:
        self.id = shop.names.message()
        self._shop = shop
        self._envelope = envelope
        self._origin = origin
        self._copies = copies
        self._trace: tuple[bytes, bytes] | None = None
        self._chunks: list[bytes] = []
        self._held = 0  # octets in _chunks
        self._file: File | None = None  # of a message that has outgrown memory
        self._first: _Place | None = None  # what that file is called, while it is
        self._start = 0  # where the message begins in it

    def write(self, octets: bytes) -> None:
        self._chunks.append(octets)
        self._held += len(octets)
        if self._held > MOST_IN_MEMORY:
            try:
                self._spill()
            except OSError as cause:
                self._give_up(cause)

    def commit(self) -> Receipt:
        try:
            places = self._insist(self._deliver if self._file is None else self._deliver_large)
        except OSError as cause:
            self._give_up(cause)
        self._forget()
        return Receipt(self.id, tuple([place.path for place in places]))

    def abort(self) -> None:
        first = self._first
        if first is not None:
            with suppress(OSError):
                remove(first.maildir.tmp, first.name)
        self._forget()

    def _deliver(self) -> list[_Place]:
        places, directories, deliveries = [], [], []
        for copy in self._copies:
            place = self._place(copy)
            maildir, octets = place.maildir, (self._head(copy), *self._chunks)
            places.append(place)
            directories.append(maildir.new)
            deliveries.append((maildir.tmp, place.name, octets, maildir.new))
        deliver_all(deliveries, self._shop.maildirs.filesystem_of(directories))
        return places

    def _deliver_large(self) -> list[_Place]:
        file = self._spill()
        first, self._first = self._first, None
        places = [] if first is None else [first]
        try:
            for copy in self._copies[len(places) :]:
                place = self._place(copy)
                file.copy(place.maildir.tmp, place.name, [self._head(copy)], self._start)
                places.append(place)
            if first is not None:
                file.sync()
                file.forget()
        except OSError:
            for place in places:
                with suppress(OSError):
                    remove(place.maildir.tmp, place.name)
            raise
        publish([(place.maildir.tmp, place.name, place.maildir.new) for place in places])
        return places

    def _spill(self) -> File:
        """Write what is in memory to the first copy's file."""
        if self._file is None:
            self._file, self._first = self._insist(self._open)
            head = self._head(self._copies[0])
            self._start = len(head)
            self._chunks.insert(0, head)
        self._file.write(self._chunks)
        self._chunks = []
        self._held = 0
        return self._file

    def _open(self) -> tuple[File, _Place]:
        place = self._place(self._copies[0])
        return File(place.maildir.tmp, place.name), place

    def _place(self, copy: Copy) -> _Place:
        return _Place(self._shop.maildirs.open(copy.login), self._shop.names.file())

    def _head(self, copy: Copy) -> bytes:
        """What goes before the message: Return-Path, Delivered-To, Received."""
        if self._trace is None:
            recipients = self._envelope.recipients
            self._trace = (
                trace.return_path(self._envelope.reverse_path, LINE_END),
                trace.received(
                    self._origin,
                    self.id,
                    recipient=recipients[0].mailbox if len(recipients) == 1 else None,
                    when=self._shop.clock(),
                    line_end=LINE_END,
                    dates=self._shop.dates,
                ),
            )
        return_path, received = self._trace
        return return_path + trace.delivered_to(copy.mailbox, LINE_END) + received

    def _insist(self, action: Callable[[], _Result]) -> _Result:
        """Do it, and once more from the start if a Maildir is gone, or a name was taken."""
        try:
            return action()
        except (FileNotFoundError, FileExistsError):
            self._shop.maildirs.forget(copy.login for copy in self._copies)
            return action()

    def _give_up(self, cause: OSError) -> NoReturn:
        self.abort()
        if wants_descriptors(cause):
            self._shop.maildirs.forget_all()
        else:
            self._shop.maildirs.forget(copy.login for copy in self._copies)
        raise transient(cause) from cause

    def _forget(self) -> None:
        self._chunks = []
        self._held = 0
        self._first = None
        if self._file is not None:
            self._file.close()
            self._file = None
