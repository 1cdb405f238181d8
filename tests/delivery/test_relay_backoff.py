"""Leaving alone what fails: how long, who probes, and what is forgotten."""

from __future__ import annotations

import pytest

from pfsmtp.delivery.relay.backoff import BackOff, Held


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


def until(held: Held | None) -> float:
    assert held is not None
    return held.until


def test_nothing_is_known_at_first(back_off: BackOff[str]) -> None:
    assert back_off.look("a") is None
    assert back_off.enter("a") is None
    back_off.left("a")
    back_off.succeeded("a")
    assert back_off.enter("a") is None


def test_each_failure_doubles_the_time_up_to_the_most(back_off: BackOff[str], clock: Clock) -> None:
    times = []
    for _ in range(8):
        back_off.failed("a", "away")
        times.append(until(back_off.enter("a")) - clock.now)
        clock.now = until(back_off.enter("a"))
        assert back_off.enter("a") is None
    assert times == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert back_off.look("b") is None


def test_many_failures_do_not_overflow(back_off: BackOff[str], clock: Clock) -> None:
    for _ in range(3000):
        back_off.failed("a", "away")
        clock.now = until(back_off.look("a"))
    back_off.failed("a", "away")
    assert until(back_off.look("a")) - clock.now == 3600


@pytest.mark.parametrize(("number", "seconds"), [(0.0, 54.0), (0.5, 60.0), (1.0, 66.0)])
def test_time_is_jittered(clock: Clock, number: float, seconds: float) -> None:
    back_off: BackOff[str] = BackOff(60.0, 3600.0, clock=clock, random=lambda: number)
    back_off.failed("a", "away")
    assert until(back_off.look("a")) - clock.now == pytest.approx(seconds)


def test_failures_of_those_under_way_count_as_one(back_off: BackOff[str], clock: Clock) -> None:
    for number in range(20):
        back_off.failed("a", f"away {number}")
    assert back_off.look("a") == Held(1060.0, "away 19")


def test_one_probes_and_the_others_wait(back_off: BackOff[str], clock: Clock) -> None:
    back_off.failed("a", "away")
    clock.now = 1060.0
    assert back_off.look("a") is None
    assert back_off.enter("a") is None
    assert back_off.enter("a") == back_off.look("a") == Held(1065.0, "away")


def test_probe_that_succeeds_lets_all_in(back_off: BackOff[str], clock: Clock) -> None:
    back_off.failed("a", "away")
    clock.now = 1060.0
    back_off.enter("a")
    back_off.succeeded("a")
    assert back_off.enter("a") is None
    assert back_off.enter("a") is None
    back_off.failed("a", "away again")
    assert until(back_off.look("a")) == 1120.0


def test_probe_that_showed_nothing_is_followed_by_another(
    back_off: BackOff[str], clock: Clock
) -> None:
    back_off.failed("a", "away")
    clock.now = 1060.0
    back_off.enter("a")
    back_off.left("a")
    assert back_off.enter("a") is None


def test_probe_that_was_never_heard_of_again_is_followed_by_another(
    back_off: BackOff[str], clock: Clock
) -> None:
    back_off.failed("a", "away")
    clock.now = 1060.0
    back_off.enter("a")
    clock.now += 3601.0
    assert back_off.enter("a") is None


def test_hold_is_no_failure(back_off: BackOff[str], clock: Clock) -> None:
    back_off.hold("a", Held(1500.0, "its hosts are away"))
    assert back_off.look("a") == Held(1500.0, "its hosts are away")
    clock.now = 1500.0
    back_off.failed("a", "away")
    assert until(back_off.look("a")) == 1560.0


def test_what_nobody_asks_for_is_forgotten(back_off: BackOff[str], clock: Clock) -> None:
    back_off.failed("a", "away")
    clock.now += 7000
    back_off.failed("b", "away")
    back_off.tidy()
    assert set(back_off._failing) == {"a", "b"}
    clock.now += 1000
    back_off.tidy()
    assert set(back_off._failing) == {"b"}


def test_whoever_knows_better_is_let_through_once(back_off: BackOff[str], clock: Clock) -> None:
    for key in "ab":
        back_off.failed(key, "away")
    clock.now += 5
    back_off.ask("a", clock.now)
    assert back_off.look("a") is None
    assert back_off.look("b") == Held(1060.0, "away")
    assert back_off.enter("a") is None
    back_off.ask("a", clock.now)
    assert back_off.enter("a") is not None
    back_off.failed("a", "still away")
    back_off.ask("a", clock.now)
    assert until(back_off.look("a")) == clock.now + 120


def test_a_failure_since_is_believed(back_off: BackOff[str], clock: Clock) -> None:
    asked = clock.now
    clock.now += 2
    back_off.failed("a", "away")
    clock.now += 10
    back_off.ask("a", asked)
    back_off.ask_all(asked)
    assert until(back_off.look("a")) == 1062.0


def test_many_who_know_better_ask_once_a_second(back_off: BackOff[str], clock: Clock) -> None:
    attempts = 0
    for _ in range(1000):
        clock.now += 0.01
        back_off.ask("a", clock.now)
        if back_off.enter("a") is None:
            attempts += 1
            back_off.failed("a", "away")
    assert 5 <= attempts <= 11


def test_all_that_failed_can_be_asked_for_at_once(back_off: BackOff[str], clock: Clock) -> None:
    for key in "abc":
        back_off.failed(key, "away")
    clock.now += 2
    back_off.ask_all(clock.now)
    assert [back_off.enter(key) for key in "abc"] == [None, None, None]
    back_off.failed("a", "away")
    clock.now += 0.5
    back_off.ask_all(clock.now)
    assert back_off.enter("a") is not None
    clock.now += 0.6
    back_off.ask_all(clock.now)
    assert back_off.enter("a") is None


def test_those_held_now_can_be_told(back_off: BackOff[str], clock: Clock) -> None:
    back_off.failed("a", "away")
    clock.now += 30
    back_off.failed("b", "gone")
    assert back_off.held() == [("a", Held(1060.0, "away")), ("b", Held(1090.0, "gone"))]
    clock.now += 30
    assert back_off.held() == [("b", Held(1090.0, "gone"))]
