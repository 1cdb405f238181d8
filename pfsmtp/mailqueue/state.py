"""How far one message to one domain has come, and every way that can change; pure functions.

A back end keeps a `State` for each unit, and makes it durable; what is here decides what the next
one is. All that happens to a unit happens under its lease, so that there is one state after
another.

    waiting    to be tried at its time
    held       by the operator; not tried
    prepared   a notice that does not count yet: its message may still make another (see `draft`)
    finished   nothing is left to do; never changes again

Telling the sender exactly once: a notice (bounce, delay, success) is a message of its own. Before
it is put in the queue, the unit it tells about notes its id and place as a `Draft`; it is put
there `prepared`; then the unit notes that the sender was told, which is when the notice counts;
then the notice is let go. Whoever finds a draft later looks for the notice: if it is there, the
sender counts as told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum

from msgspec import Struct
from msgspec.structs import replace

from pfsmtp.mailqueue.entry import Wish
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status

RETURNED = Outcome(Kind.FAILED, Status(5, 0, 0), "returned by the operator of this server")


class Phase(IntEnum):
    """Where a unit is; the numbers are on disk."""

    WAITING = 0
    HELD = 1
    PREPARED = 2
    FINISHED = 3


class Progress(Struct, frozen=True):
    """What has become of one recipient."""

    outcome: Outcome | None = None
    owed: bool = False

    @property
    def pending(self) -> bool:
        return self.outcome is None or not self.outcome.is_final


class Draft(Struct, frozen=True):
    """A notice under way: where it is put, its id, and what it tells the sender of."""

    place: int
    id: int
    about: tuple[int, ...]  # recipients, by their number; none when it is about the delay


class State(Struct, frozen=True):
    """All that changes about a unit."""

    progress: tuple[Progress, ...]
    next_attempt: float
    phase: Phase = Phase.WAITING
    version: int = 0
    attempts: int = 0
    tried_at: float | None = None
    wish: int = 0  # the number of the operator's last wish that was carried out
    delay_reported: bool = False
    reason: str = ""
    draft: Draft | None = None


def begin(recipients: int, *, due: float, prepared: bool = False) -> State:
    """The state of a unit that is put in the queue."""
    phase = Phase.PREPARED if prepared else Phase.WAITING
    return State((Progress(),) * recipients, due, phase)


def attempted(state: State, now: float) -> State:
    """An attempt was made, whatever came of it."""
    return replace(state, attempts=state.attempts + 1, tried_at=now, reason="")


def record(state: State, outcomes: Mapping[int, Outcome], owed: Collection[int]) -> State:
    """Note outcomes by number of recipient; to those of `owed` a notice is due.

    A recipient that was delivered to stays so, whatever is recorded later.
    """
    progress = list(state.progress)
    for number, outcome in outcomes.items():
        before = progress[number].outcome
        if before is None or before.kind is not Kind.DELIVERED:
            progress[number] = Progress(outcome, number in owed)
    return _settled(state, progress)


def postpone(state: State, until: float, reason: str) -> State:
    """Wait until then; `reason` is for what no remote said."""
    return replace(state, next_attempt=until, reason=reason)


def draft(state: State, draft: Draft) -> State:
    """A notice is about to be put in the queue."""
    return replace(state, draft=draft)


def told(state: State) -> State:
    """The notice that was drafted counts: the sender has been told."""
    if state.draft is None:
        return state
    about = state.draft.about
    progress = [
        replace(each, owed=False) if number in about else each
        for number, each in enumerate(state.progress)
    ]
    delay = state.delay_reported or not about
    return _settled(replace(state, delay_reported=delay, draft=None), progress)


def let_go(state: State) -> State:
    """The notice counts: it is to be delivered like any message."""
    return replace(state, phase=Phase.WAITING) if state.phase is Phase.PREPARED else state


def forgo(state: State) -> State:
    """The notice that was drafted is not in the queue, and never will be."""
    return replace(state, draft=None)


def carry_out(state: State, wish: Wish, *, number: int, now: float) -> State:
    """Do what the operator wants; the wish of that number is not carried out again."""
    if state.phase in (Phase.FINISHED, Phase.PREPARED) or number <= state.wish:
        return state
    state = replace(state, wish=number)
    match wish:
        case Wish.HOLD:
            return replace(state, phase=Phase.HELD)
        case Wish.RELEASE:
            return replace(state, phase=Phase.WAITING)
        case Wish.RETRY:
            return replace(state, phase=Phase.WAITING, next_attempt=now)
        case Wish.DELETE:
            # A notice that was made before is let go, if it was.
            return replace(state, phase=Phase.FINISHED, draft=None)
        case Wish.BOUNCE:
            failed = tuple(
                Progress(RETURNED, owed=True) if each.pending else each for each in state.progress
            )
            return replace(state, phase=Phase.WAITING, next_attempt=now, progress=failed)


def _settled(state: State, progress: Iterable[Progress]) -> State:
    """With this progress; finished once nobody is pending and nobody is owed a notice."""
    progress = tuple(progress)
    for each in progress:
        if each.owed or each.pending:
            return replace(state, progress=progress)
    return replace(state, progress=progress, phase=Phase.FINISHED, draft=None)
