"""The account: what was promised is held against what was found, case by case."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pfsmtp.crashtest.account import Account, Key, OutboundAccounts, Waiting, of_inbound
from pfsmtp.crashtest.ledger import Ledger
from pfsmtp.crashtest.remote import Arrival, Report

A, B = "a@x", "b@x"
DEATH = 100.0


def ledger(*, acknowledged: Sequence[str] = (), refused: bool = False) -> Ledger:
    """Message 1 for A and B, answered so; message 2 for A, acknowledged."""
    made = Ledger()
    first = made.open(1, (A, B))
    if acknowledged:
        made.acknowledge(first, tuple(acknowledged))
    if refused:
        made.refuse(first)
    made.acknowledge(made.open(2, (A,)), (A,))
    return made


def copy(
    number: int, recipient: str, at: float = 1.0, *, unanswered: bool = False, cut: bool = False
) -> Arrival:
    return Arrival(number, recipient, at, unanswered, cut)


def inbound(of: Ledger, *arrivals: Arrival, faults: Sequence[str] = ()) -> Account:
    return of_inbound(of, [copy(2, A), *arrivals], faults)


def outbound(
    of: Ledger,
    *arrivals: Arrival,
    reports: Sequence[Report] = (),
    pending: frozenset[Key] = frozenset(),
    failed: frozenset[Key] = frozenset(),
    deaths: Sequence[float] = (),
    delivered: dict[Key, list[float]] | None = None,
) -> Account:
    accounts = OutboundAccounts(
        of,
        [copy(2, A), *arrivals],
        reports,
        waiting=Waiting(pending, failed),
        deaths=deaths,
    )
    return accounts.close(delivered or {}, [])


def report(*recipients: str, id: str = "<r1>", at: float = 1.0) -> Report:
    return Report(1, recipients, id, at)


def test_one_copy_each_is_as_it_should_be() -> None:
    account = inbound(ledger(acknowledged=[A, B]), copy(1, A), copy(1, B))
    assert account.faults == []
    assert account.figures["found"] == account.figures["acknowledged_recipients"] == 3
    assert account.figures["missing"] == account.figures["duplicated"] == 0


def test_an_acknowledged_copy_that_is_not_there_is_missing() -> None:
    account = inbound(ledger(acknowledged=[A, B]), copy(1, B))
    assert account.figures["missing"] == 1
    assert account.faults == ["message 1 for a@x was acknowledged, and is missing"]


def test_a_second_copy_is_a_duplicate_acknowledged_or_not() -> None:
    for of in (ledger(acknowledged=[A, B]), ledger()):
        account = inbound(of, copy(1, A), copy(1, A), copy(1, B))
        assert account.figures["duplicated"] == 1
        assert account.faults == ["message 1 is there 2 times for a@x"]


def test_what_was_not_answered_may_be_there_or_not() -> None:
    account = inbound(ledger(), copy(1, A))
    assert account.faults == []
    assert account.figures["unanswered"] == 2
    assert account.figures["unanswered_but_there"] == 1
    assert account.figures["found"] == 1


def test_what_was_refused_must_not_be_there() -> None:
    assert inbound(ledger(refused=True)).faults == []
    account = inbound(ledger(refused=True), copy(1, A))
    assert account.faults == ["message 1 for a@x was refused, and is there"]


def test_what_nobody_sent_there_must_not_be_there() -> None:
    account = inbound(ledger(acknowledged=[A]), copy(1, A), copy(1, B), copy(3, A))
    assert account.faults == [
        "message 1 is there for b@x, to whom it was not sent",
        "message 3 is there for a@x, to whom it was not sent",
    ]


def test_what_is_wrong_with_files_is_a_fault() -> None:
    account = inbound(ledger(acknowledged=[A, B]), copy(1, A), copy(1, B), faults=["new/x: empty"])
    assert account.faults == ["new/x: empty"]
    assert account.figures["partial"] == 1


def test_each_recipient_is_in_one_of_three_ends() -> None:
    made = ledger(acknowledged=[A, B])
    account = outbound(made, copy(1, A), reports=[report(B)])
    assert account.faults == []
    assert (account.figures["delivered"], account.figures["bounced"]) == (2, 1)
    account = outbound(made, pending=frozenset({(1, A)}), failed=frozenset({(1, B)}))
    assert account.faults == []
    ends = [account.figures[end] for end in ("delivered", "bounced", "queued", "missing")]
    assert ends == [1, 1, 1, 0]


def test_a_recipient_in_none_of_them_is_missing() -> None:
    account = outbound(ledger(acknowledged=[A, B]), copy(1, A))
    assert account.figures["missing"] == 1
    assert account.faults == ["message 1 for b@x was acknowledged, and is missing"]


@pytest.mark.parametrize("other", ["delivered", "queued"])
def test_a_recipient_that_was_reported_is_in_no_other_end(other: str) -> None:
    account = outbound(
        ledger(acknowledged=[A]),
        *([copy(1, A)] if other == "delivered" else []),
        reports=[report(A)],
        pending=frozenset({(1, A)}) if other == "queued" else frozenset(),
    )
    assert len(account.faults) == 1
    assert "bounced" in account.faults[0]
    assert other in account.faults[0]


def test_a_duplicate_without_a_kill_is_a_fault() -> None:
    account = outbound(ledger(acknowledged=[A]), copy(1, A, 50), copy(1, A, 60), deaths=[DEATH])
    assert account.figures["duplicated"] == 1
    assert account.faults == ["message 1 for a@x was delivered, and once more without need"]


def test_a_duplicate_around_a_kill_is_excused() -> None:
    account = outbound(ledger(acknowledged=[A]), copy(1, A, 99), copy(1, A, 101), deaths=[DEATH])
    assert account.faults == []
    assert account.figures["duplicated_after_a_kill"] == 1
    assert account.figures["duplicated"] == 0


def test_a_connection_that_was_lost_excuses_the_next_copy_but_not_what_was_done() -> None:
    made, copies = ledger(acknowledged=[A]), (copy(1, A, 50, cut=True), copy(1, A, 60))
    assert outbound(made, *copies).faults == []
    done = outbound(made, *copies, delivered={(1, A): [55.0]})
    assert done.figures["duplicated"] == 1


def test_a_host_may_see_a_message_shortly_after_its_sender_was_killed() -> None:
    account = outbound(ledger(acknowledged=[A]), copy(1, A, 101), copy(1, A, 102), deaths=[DEATH])
    assert account.faults == []
    late = outbound(ledger(acknowledged=[A]), copy(1, A, 131), copy(1, A, 132), deaths=[DEATH])
    assert late.figures["duplicated"] == 1


def test_a_kill_does_not_excuse_what_the_log_says_was_done() -> None:
    made = ledger(acknowledged=[A])
    copies = (copy(1, A, 99), copy(1, A, 101.0005))
    done_before = outbound(made, *copies, deaths=[DEATH], delivered={(1, A): [99.5]})
    assert done_before.figures["duplicated"] == 1
    done_twice = outbound(made, *copies, deaths=[DEATH], delivered={(1, A): [101.2, 101.4]})
    assert done_twice.figures["duplicated"] == 1
    # The log's times are cut to a millisecond: this one may be that of the second delivery.
    done_after = outbound(made, *copies, deaths=[DEATH], delivered={(1, A): [101.0]})
    assert done_after.faults == []


def test_a_host_that_hung_up_in_place_of_its_reply_excuses_the_next_copy() -> None:
    account = outbound(
        ledger(acknowledged=[A]), copy(1, A, 50, unanswered=True), copy(1, A, 60), copy(1, A, 70)
    )
    assert account.figures["duplicated_after_a_hang_up"] == 1
    assert account.figures["duplicated"] == 1


def test_what_was_delivered_and_waits_still_is_a_duplicate_to_be() -> None:
    made, waits = ledger(acknowledged=[A]), frozenset({(1, A)})
    assert outbound(made, copy(1, A, 99), pending=waits, deaths=[DEATH]).faults == []
    assert outbound(made, copy(1, A, 99), pending=waits).figures["duplicated"] == 1


def test_a_failure_that_is_reported_twice_is_a_fault() -> None:
    made = ledger(acknowledged=[A])
    twice = outbound(made, reports=[report(A), report(A, id="<r2>", at=2)], deaths=[1.5])
    assert twice.faults == ["the failure of message 1 for a@x was reported twice"]
    same = [report(A, at=99), report(A, at=101)]
    assert outbound(made, reports=same, deaths=[DEATH]).faults == []
    assert len(outbound(made, reports=same).faults) == 1


def test_the_log_is_asked_about_what_is_there_twice() -> None:
    accounts = OutboundAccounts(
        ledger(acknowledged=[A, B]),
        [copy(1, A), copy(1, A), copy(2, A), copy(3, A)],
        [],
        waiting=Waiting(frozenset({(2, A), (4, A)})),
        deaths=[],
    )
    assert accounts.suspects() == {1, 2}
