"""How much goes to a destination, and who is told to ask again when."""

from __future__ import annotations

import pytest

from pfsmtp.delivery.relay.backoff import BackOff, Held
from pfsmtp.delivery.relay.gate import Gate


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def back_off(clock: Clock) -> BackOff[str]:
    return BackOff(60.0, 3600.0, clock=clock, random=lambda: 0.5)


@pytest.fixture
def gate(clock: Clock, back_off: BackOff[str]) -> Gate:
    return Gate(back_off, limit=20, per_minute=0, clock=clock)


def enter(gate: Gate, domain: str = "a") -> Held | None:
    return gate.enter(domain, 0)


def fill(gate: Gate) -> int:
    """Enter until there is no more room; how often."""
    count = 0
    while enter(gate) is None:
        count += 1
    return count


def leave(gate: Gate, reached: bool | None = True) -> None:
    gate.leave("a", reached, reason="away")


def test_concurrency_grows_with_each_success_up_to_the_limit(gate: Gate) -> None:
    assert fill(gate) == 5
    leave(gate)
    assert fill(gate) == 2
    for _ in range(100):
        leave(gate)
        fill(gate)
    assert sum(1 for _ in iter(lambda: leave_if_any(gate), False)) == 20


def leave_if_any(gate: Gate) -> bool:
    if not gate._traffic["a"].running:
        return False
    leave(gate)
    return True


def test_destinations_do_not_hinder_each_other(gate: Gate) -> None:
    fill(gate)
    assert enter(gate, "b") is None


def test_destination_that_failed_gets_one_at_a_time(gate: Gate, clock: Clock) -> None:
    enter(gate)
    leave(gate, False)
    assert enter(gate) == Held(1060.0, "away")
    clock.now = 1061.0
    assert fill(gate) == 1
    leave(gate)
    assert fill(gate) == 2


def test_attempt_that_showed_nothing_changes_nothing(gate: Gate) -> None:
    assert fill(gate) == 5
    leave(gate, None)
    assert fill(gate) == 1


def test_hold_of_all_hosts_is_that_of_the_destination(gate: Gate) -> None:
    enter(gate)
    gate.leave("a", None, held=Held(1234.0, "all away"))
    assert enter(gate) == gate.look("a") == Held(1234.0, "all away")


def test_room_is_what_may_be_begun_beside_those_under_way(gate: Gate) -> None:
    assert gate.room("a") == 20  # nothing is known yet
    enter(gate)
    assert gate.room("a") == 4
    assert fill(gate) == 4
    assert gate.room("a") == 0
    leave(gate)
    assert gate.room("a") == 2
    leave(gate, False)
    assert gate.room("a") == -2


def test_who_finds_no_room_in_time_asks_again_later(gate: Gate) -> None:
    fill(gate)
    held = enter(gate)
    assert held is not None
    assert held.until == 1005.0
    # The destination itself is not left alone.
    assert gate.look("a") is None


def test_new_connections_are_spaced(clock: Clock, back_off: BackOff[str]) -> None:
    gate = Gate(back_off, limit=20, per_minute=6, clock=clock)
    enter(gate)
    enter(gate, "b")
    assert gate.connect("a") is None
    held = gate.connect("a")
    assert held is not None
    assert held.until == 1010.0
    assert gate.connect("b") is None
    clock.now = 1010.0
    assert gate.connect("a") is None


def test_idle_destinations_are_forgotten(gate: Gate, clock: Clock) -> None:
    enter(gate)
    enter(gate, "b")
    leave(gate)
    clock.now += 1000
    gate.tidy()
    assert list(gate._traffic) == ["b"]
