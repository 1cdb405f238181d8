"""When the first worker goes before the others: while its connections are few and bring little."""

from __future__ import annotations

import pytest

from pfsmtp.process.service import Context
from pfsmtp.roles.precedence import MOST, SMALL, Precedence

KIB = 1024


def precedence(*, index: int = 0, count: int = 2, taken: float | None = 0.0) -> Precedence:
    subject = Precedence(Context("receiver", index, count, 1))
    if taken is not None:
        subject.core_taken(taken)
    return subject


def after(subject: Precedence, messages: int, octets: int, *, connections: int = 100) -> bool:
    """Whether it goes first once so many connections have brought that much each."""
    for _ in range(connections):
        subject.ended(messages, octets)
    return subject.holds(1)


@pytest.mark.parametrize(
    ("messages", "octets"), [(1, KIB), (1, 20 * KIB), (0, 100)], ids=["small", "larger", "none"]
)
def test_first_worker_goes_first_once_connections_have_brought_a_small_message_each(
    messages: int, octets: int
) -> None:
    subject = precedence()
    assert not subject.holds(1)
    assert after(subject, messages, octets)


@pytest.mark.parametrize(("messages", "octets"), [(100, 100 * KIB), (2, 2 * KIB), (1, 2 * SMALL)])
def test_all_take_turns_while_connections_bring_much(messages: int, octets: int) -> None:
    assert not after(precedence(), messages, octets)


def test_what_connections_have_brought_is_forgotten_for_what_they_bring_now() -> None:
    subject = precedence()
    assert after(subject, 1, KIB)
    assert not after(subject, 10, KIB)
    assert after(subject, 1, KIB)


def test_one_long_connection_among_many_is_no_reason_to_take_turns() -> None:
    subject = precedence()
    assert after(subject, 1, KIB)
    assert after(subject, 10, 10 * KIB, connections=1)


def test_all_take_turns_above_so_many_connections() -> None:
    subject = precedence()
    assert after(subject, 1, KIB)
    assert subject.holds(MOST - 1)
    assert not subject.holds(MOST)


def test_all_take_turns_while_the_core_is_full_and_it_is_tried_again() -> None:
    subject = precedence()
    assert after(subject, 1, KIB)
    subject.core_taken(0.9)
    assert subject.holds(1)
    subject.core_taken(1.0)
    looks = 0
    while not subject.holds(1):
        subject.core_taken(0.5)
        looks += 1
    assert looks == 30
    subject.core_taken(1.0)
    assert not subject.holds(1)


@pytest.mark.parametrize(
    "subject",
    [precedence(index=1), precedence(index=1, count=8), precedence(taken=None)],
    ids=["second of two", "second of eight", "keeps to no core"],
)
def test_nobody_else_goes_first(subject: Precedence) -> None:
    assert not after(subject, 1, KIB)


@pytest.mark.parametrize("taken", [None, 1.0])
def test_who_is_alone_need_not_queue_up_behind_others(taken: float | None) -> None:
    subject = precedence(count=1, taken=taken)
    assert subject.holds(10 * MOST)
