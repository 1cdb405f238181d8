"""The final delivery of the outbound server, as its dialogue sees it: into the queue.

Adds what a submission server adds: the Received field of this hop, and Date and Message-ID where
they are missing (RFC 5321 §4.4, RFC 6409 §8). The message itself is kept octet for octet. Mail for
`<postmaster>`, who has no domain to be sent to, is addressed to the one that is configured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from msgspec.structs import replace

from pfsmtp.mailqueue.backend import Queue
from pfsmtp.message.header import HeaderReader, missing_fields
from pfsmtp.message.trace import Dates, received
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Origin
from pfsmtp.smtp.ports import Intake, Receipt


class QueueStore:
    """Implements `smtp.ports.MessageStore`."""

    line_end = b"\r\n"

    def __init__(
        self,
        queue: Queue,
        *,
        dates: Dates,
        postmaster: Mailbox | None = None,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._queue = queue
        self._dates = dates
        self._postmaster = postmaster
        self._clock = clock
        self._random = random
        self.room_for = queue.room_for

    def begin(self, envelope: Envelope, origin: Origin) -> Intake:
        envelope = self._addressed(envelope)
        return Submission(self, self._queue.begin(envelope), envelope, origin)

    def first_fields(self, start: bytes, id: str, envelope: Envelope, origin: Origin) -> bytes:
        """What goes before a message that starts so."""
        now = self._clock()
        recipients = envelope.recipients
        trace = received(
            origin,
            id,
            recipient=recipients[0].mailbox if len(recipients) == 1 else None,
            when=now,
            dates=self._dates,
        )
        missing = missing_fields(start, now, hostname=origin.hostname, random=self._random)
        return trace + missing

    def _addressed(self, envelope: Envelope) -> Envelope:
        """The envelope with a domain for every recipient (RFC 5321 §4.5.1)."""
        postmaster = self._postmaster
        if postmaster is None or all(each.mailbox.domain for each in envelope.recipients):
            return envelope
        recipients = (
            each if each.mailbox.domain else replace(each, mailbox=postmaster)
            for each in envelope.recipients
        )
        return replace(envelope, recipients=tuple(recipients))


class Submission:
    """Implements `smtp.ports.Intake`: waits for the header, and puts fields before it."""

    __slots__ = ("_envelope", "_header", "_intake", "_origin", "_store", "id")

    def __init__(
        self, store: QueueStore, intake: Intake, envelope: Envelope, origin: Origin
    ) -> None:
        self.id = intake.id
        self._store = store
        self._intake = intake
        self._envelope = envelope
        self._origin = origin
        self._header: HeaderReader | None = HeaderReader()

    def write(self, octets: bytes) -> None:
        if self._header is None:
            self._intake.write(octets)
        elif self._header.feed(octets):
            self._begin(self._header.octets)

    def commit(self) -> Receipt:
        if self._header is not None:
            self._begin(self._header.octets)
        return self._intake.commit()

    def abort(self) -> None:
        self._intake.abort()

    def _begin(self, start: bytes) -> None:
        """The header is there."""
        self._header = None
        fields = self._store.first_fields(start, self.id, self._envelope, self._origin)
        self._intake.write(fields + start)
