"""A deliverer's work on one unit: outcomes, notices, and when it is to be tried again.

What was recorded as final is on disk when `record` returns. When the disk does not take it, the
lease stays where it is, locked, and the shard tries again: a message that was delivered is not to
be delivered once more because it could not be noted down. Only if the process ends before, it is.

How notices are kept in step with the unit they tell about is in `notices`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from pfsmtp.mailqueue import slot, state
from pfsmtp.mailqueue.body import FileBody, SlotBody
from pfsmtp.mailqueue.entry import Entry, Wish, text_of
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.grip import Grip
from pfsmtp.mailqueue.notices import Report
from pfsmtp.mailqueue.state import Draft, State
from pfsmtp.smtp.envelope import Envelope
from pfsmtp.smtp.outcome import Outcome

ABANDONED_RETRY = 300.0
"""Seconds after which a unit is tried again whose lease ended without a word."""

_STOPPING = (Wish.DELETE, Wish.HOLD, Wish.BOUNCE)


class UnitLease:
    """Implements `backend.Lease`. `done` is told when the lock is gone, and how the unit is."""

    def __init__(
        self,
        files: Files,
        grip: Grip,
        body: SlotBody | FileBody,
        *,
        entry: Entry,
        done: Callable[[UnitLease, State], None],
    ) -> None:
        self.body = body
        self.ended = False
        self.unwritten = False
        """It has ended, and the disk did not take how."""
        self._files = files
        self._grip = grip
        self._done = done
        self._counted = False  # this attempt, among the attempts
        self._entry = entry
        self._entry_of = grip.state

    def __enter__(self) -> UnitLease:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self.ended:
            self.release(self._files.clock() + ABANDONED_RETRY)

    @property
    def entry(self) -> Entry:
        grip = self._grip
        if self._entry_of is not grip.state:
            self._entry = slot.entry_of(grip.head, grip.unit, grip.block, grip.state)
            self._entry_of = grip.state
        return self._entry

    @property
    def place(self) -> int:
        return self._grip.place

    @property
    def id(self) -> int:
        return self._grip.head.id

    def revoked(self) -> bool:
        with suppress(OSError):
            wished = self._grip.wished()
            return wished is not None and wished[1] in _STOPPING
        return False

    def record(self, outcomes: Mapping[int, Outcome], *, owed: Collection[int] = ()) -> None:
        self._check_open()
        grip = self._grip
        if not self._counted:
            self._counted = True
            grip.state = state.attempted(grip.state, self._files.clock())
        grip.state = state.record(grip.state, outcomes, owed)
        if not grip.is_finished() and any(outcome.is_final for outcome in outcomes.values()):
            self._write()
            self._obey()
        self.finish()

    def report(self, envelope: Envelope, about: Collection[int] = ()) -> Report:
        self._check_open()
        return Report(self._files, envelope, self, about)

    def release(self, until: float, *, reason: str = "") -> None:
        self._check_open()
        self._grip.state = state.postpone(self._grip.state, until, reason)
        self._obey()
        self._end()

    def draft(self, place: int, id: int, about: Collection[int]) -> None:
        """Note that a notice is about to be put there. Raises OSError."""
        self._check_open()
        self._grip.state = state.draft(self._grip.state, Draft(place, id, tuple(about)))
        self._grip.write()

    def told(self) -> None:
        """Note that the notice counts. Raises OSError."""
        self._grip.state = state.told(self._grip.state)
        self._grip.write()

    def finish(self) -> None:
        """End it if nothing is left to do."""
        if self._grip.is_finished() and not self.ended:
            self._end()

    def end_again(self) -> bool:
        """Try once more to note how it ended; whether that is done."""
        self._end()
        return not self.unwritten

    def _obey(self) -> None:
        with suppress(OSError):
            self._grip.obey(now=self._files.clock())

    def _write(self) -> None:
        try:
            self._grip.write()
        except OSError as error:
            # It goes with what is written next.
            self._complain(error)

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self.body.close()
        try:
            self._grip.end()
            self.unwritten = False
        except OSError as error:
            self.unwritten = True
            self._complain(error)
        self._done(self, self._grip.state)

    def _complain(self, error: OSError) -> None:
        self._files.log.event("queue-write-failed", id=text_of(self.id), reason=error.strerror)

    def _check_open(self) -> None:
        if self.ended:
            raise RuntimeError("the lease has ended")
