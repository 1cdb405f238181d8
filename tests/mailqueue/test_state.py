"""What becomes of a unit when something happens to it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pfsmtp.mailqueue import state
from pfsmtp.mailqueue.entry import Wish
from pfsmtp.mailqueue.state import RETURNED, Draft, Phase
from tests.mailqueue.conftest import DEFERRED, DELIVERED, FAILED

NEW = state.begin(2, due=100.0)
DRAFT = Draft(7, 8, (0,))


def test_unit_is_finished_once_nobody_is_pending_and_nobody_owed() -> None:
    part = state.record(NEW, {0: DELIVERED}, ())
    assert part.phase is Phase.WAITING
    owed = state.record(part, {1: FAILED}, {1})
    assert owed.phase is Phase.WAITING
    assert state.record(part, {1: FAILED}, ()).phase is Phase.FINISHED
    told = state.told(state.draft(owed, Draft(1, 2, (1,))))
    assert told.phase is Phase.FINISHED


def test_deferred_recipient_is_pending() -> None:
    assert state.record(NEW, {0: DEFERRED, 1: DEFERRED}, ()).phase is Phase.WAITING


def test_telling_of_some_recipients_leaves_the_others_owed() -> None:
    owed = state.record(NEW, {0: FAILED, 1: FAILED}, {0, 1})
    told = state.told(state.draft(owed, DRAFT))
    assert [each.owed for each in told.progress] == [False, True]
    assert not told.delay_reported
    assert told.draft is None


def test_telling_of_nobody_is_telling_of_the_delay() -> None:
    told = state.told(state.draft(NEW, Draft(7, 8, ())))
    assert told.delay_reported
    assert told.phase is Phase.WAITING


def test_telling_without_a_draft_is_nothing() -> None:
    assert state.told(NEW) is NEW


def test_forgone_draft_leaves_the_notice_owed() -> None:
    owed = state.record(NEW, {0: FAILED, 1: DELIVERED}, {0})
    assert state.forgo(state.draft(owed, DRAFT)) == owed


def test_prepared_notice_is_not_touched_by_wishes_until_it_is_let_go() -> None:
    prepared = state.begin(1, due=0.0, prepared=True)
    for wish in Wish:
        assert state.carry_out(prepared, wish, number=1, now=0.0) is prepared
    assert state.let_go(prepared).phase is Phase.WAITING


def test_letting_go_changes_nothing_that_is_not_prepared() -> None:
    for phase in (Phase.WAITING, Phase.HELD, Phase.FINISHED):
        unit = replace(NEW, phase=phase)
        assert state.let_go(unit) is unit


def test_wish_is_carried_out_once() -> None:
    held = state.carry_out(NEW, Wish.HOLD, number=3, now=0.0)
    assert (held.phase, held.wish) == (Phase.HELD, 3)
    for number in (1, 3):
        assert state.carry_out(held, Wish.RELEASE, number=number, now=0.0) is held
    assert state.carry_out(held, Wish.RELEASE, number=4, now=0.0).phase is Phase.WAITING


@pytest.mark.parametrize("wish", list(Wish))
def test_finished_unit_stays_finished(wish: Wish) -> None:
    finished = replace(NEW, phase=Phase.FINISHED)
    assert state.carry_out(finished, wish, number=1, now=0.0) is finished


def test_deleting_leaves_no_draft_for_anybody_to_settle() -> None:
    deleted = state.carry_out(state.draft(NEW, DRAFT), Wish.DELETE, number=1, now=0.0)
    assert (deleted.phase, deleted.draft) == (Phase.FINISHED, None)


def test_bounce_fails_those_pending_only() -> None:
    part = state.record(NEW, {0: DELIVERED, 1: DEFERRED}, ())
    bounced = state.carry_out(part, Wish.BOUNCE, number=1, now=50.0)
    assert [each.outcome for each in bounced.progress] == [DELIVERED, RETURNED]
    assert [each.owed for each in bounced.progress] == [False, True]
    assert bounced.next_attempt == 50.0


def test_attempt_forgets_why_it_was_waited() -> None:
    waited = state.postpone(NEW, 200.0, "the host has failed")
    assert (waited.next_attempt, waited.reason) == (200.0, "the host has failed")
    tried = state.attempted(waited, 210.0)
    assert (tried.attempts, tried.tried_at, tried.reason) == (1, 210.0, "")
