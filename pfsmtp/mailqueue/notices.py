"""Telling the sender exactly once: a notice is put in step with the unit it tells about.

    1  the unit notes where the notice will be, and its id: a draft
    2  the notice is put, prepared: nobody delivers it
    3  the unit notes that the sender was told; from here on the notice counts
    4  the notice is let go, and the deliverers of its recipients are told

A crash after 1 or 2 leaves a draft: who claims the unit next looks whether the notice is there,
whole, and goes on from 3; if not, the notice is still owed. A crash after 3 leaves a prepared
notice: the shard that finds it lets it go, unless the unit it tells about has it as a draft, and
will settle it.

Each step is durable before the next. Fails with DeliveryFailure.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from pfsmtp.mailqueue import state
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.grip import Busy, Gone, Grip
from pfsmtp.mailqueue.handover import encode
from pfsmtp.mailqueue.intake import Intake
from pfsmtp.mailqueue.segment import place_in, segment_of, slot_of, unit_of
from pfsmtp.mailqueue.slot import Damage, Notice
from pfsmtp.mailqueue.state import Draft
from pfsmtp.mailqueue.upkeep import check_body
from pfsmtp.smtp.envelope import Envelope
from pfsmtp.smtp.errors import TransientFailure
from pfsmtp.smtp.ports import Receipt

if TYPE_CHECKING:
    from pfsmtp.mailqueue.lease import UnitLease


class Report(Intake):
    """A notice on its way into the queue."""

    __slots__ = ("_about", "_lease")

    def __init__(
        self, files: Files, envelope: Envelope, lease: UnitLease, about: Collection[int]
    ) -> None:
        super().__init__(files, envelope)
        self._lease = lease
        self._about = about

    def commit(self) -> Receipt:
        lease = self._lease
        place = self._put(Notice(lease.place, lease.id))
        try:
            lease.told()
        except OSError as error:
            # Whether it counts shows when the unit is claimed again.
            raise TransientFailure(3, 0, "The queue cannot be written to now") from error
        let_go(self._files, place, self._number)
        lease.finish()
        return Receipt(self.id)

    def _before(self, place: int) -> None:
        self._lease.draft(place, self._number, self._about)


def let_go(files: Files, place: int, id: int) -> None:
    """Let the units of a notice that counts be delivered. What fails is left to who finds it."""
    whole = place_in(segment_of(place), slot_of(place))
    with suppress(Damage, OSError):
        found = files.segments.head_at(whole)
        if found is None or found[0].id != id:
            return
        for number in range(found[0].units):
            domain: str | None = None
            with suppress(Busy, Gone), Grip(files, whole + number, id) as grip:
                grip.state = state.let_go(grip.state)
                domain = grip.unit.domain(grip.block)
            if domain is not None:
                files.announcer.tell_owner(domain, encode(whole, id))


def settle_draft(files: Files, grip: Grip, draft: Draft) -> None:
    """Settle what a crash has left of a notice about this unit. Raises OSError."""
    if not _was_put(files, draft):
        grip.state = state.forgo(grip.state)
        return
    grip.state = state.told(grip.state)
    grip.write()
    let_go(files, draft.place, draft.id)


def _was_put(files: Files, draft: Draft) -> bool:
    """Whether a notice is there, all of it: one that is torn was never safe. Raises OSError."""
    with suppress(Damage):
        found = files.segments.head_at(draft.place)
        if found is None or found[0].id != draft.id:
            return False
        head = found[0]
        octets = files.segments.read(draft.place, head.end)
        check_body(files, head, bytes(octets[head.body_at :])).close()
        return True
    return False


def counts(files: Files, notice: Notice, id: int) -> bool:
    """Whether a notice of that id, found prepared, counts: nobody has it as a draft."""
    try:
        found = files.segments.head_at(notice.place)
        if found is None or found[0].id != notice.id:
            return True
        head, octets = found
        unit = head.unit(unit_of(notice.place))
        draft = unit.state(unit.block(octets)).draft
    except (Damage, OSError):
        return False  # it will be seen when that can be read, or was set aside
    return draft is None or draft.id != id
