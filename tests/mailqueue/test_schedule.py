"""The schedule of retries, with a clock that is passed in."""

from __future__ import annotations

import itertools
import random

import pytest

from pfsmtp import config
from pfsmtp.config import Seconds
from pfsmtp.config.units import SecondsOrOff
from pfsmtp.mailqueue.schedule import Schedule
from tests.mailqueue.conftest import START

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

PLAIN = Schedule(config.Schedule(), lambda: 0.5)  # without jitter


def attempts_of(schedule: Schedule, *, null_path: bool = False) -> list[float]:
    """When a message is tried that fails at each attempt, in seconds since it was queued."""
    times = [0.0]
    for attempts in itertools.count(1):
        following = schedule.next_attempt(
            START, attempts, now=START + times[-1], null_path=null_path
        )
        if following is None:
            return times
        times.append(following - START)
    raise AssertionError


def test_rfc5321_4_5_4_1_attempts_are_spaced_out_as_the_message_ages() -> None:
    assert attempts_of(PLAIN)[:8] == [
        *(0, 5 * MINUTE, 15 * MINUTE, 35 * MINUTE, 75 * MINUTE),
        *(135 * MINUTE, 195 * MINUTE, 255 * MINUTE),
    ]


def test_rfc5321_4_5_4_1_given_up_after_five_days_with_an_attempt_at_the_very_end() -> None:
    times = attempts_of(PLAIN)
    assert times[-1] == 5 * DAY
    assert all(after - before <= HOUR for before, after in itertools.pairwise(times))
    assert PLAIN.expires_at(START) == START + 5 * DAY


def test_message_from_the_null_path_is_given_up_sooner() -> None:
    assert attempts_of(PLAIN, null_path=True)[-1] == 2 * DAY
    assert PLAIN.expires_at(START, null_path=True) == START + 2 * DAY


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.9), (0.5, 1.0), (0.999_999, 1.1)])
def test_intervals_vary_by_the_jitter(chance: float, factor: float) -> None:
    schedule = Schedule(config.Schedule(), lambda: chance)
    following = schedule.next_attempt(START, 1, now=START)
    assert following == pytest.approx(START + 5 * MINUTE * factor, abs=0.01)


def test_what_failed_together_is_not_tried_again_together() -> None:
    schedule = Schedule(config.Schedule(), random.Random(1).random)
    times = {schedule.next_attempt(START, 3, now=START) for _ in range(1000)}
    assert len(times) > 990
    assert None not in times
    spread = sorted(time - START for time in times if time is not None)
    assert spread[0] < 18.5 * MINUTE
    assert spread[-1] > 21.5 * MINUTE


def test_message_that_waited_while_the_server_was_down_is_given_up_in_time() -> None:
    assert PLAIN.next_attempt(START, 1, now=START + 6 * DAY) is None
    assert PLAIN.next_attempt(START, 1, now=START + 5 * DAY - 1) == START + 5 * DAY


def test_clock_that_was_set_back_lengthens_no_interval() -> None:
    following = PLAIN.next_attempt(START, 9, now=START - 10 * DAY)
    assert following == START - 10 * DAY + HOUR


def test_schedule_is_that_of_the_configuration() -> None:
    settings = config.Schedule(
        retries=(Seconds.parse("1 s"), Seconds.parse("3 s")),
        jitter=0.0,
        expire=Seconds.parse("10 s"),
        expire_bounce=Seconds.parse("5 s"),
    )
    schedule = Schedule(settings, lambda: 0.9)
    assert attempts_of(schedule) == [0, 1, 4, 7, 10]
    assert attempts_of(schedule, null_path=True) == [0, 1, 4, 5]


def test_delay_is_due_once_after_four_hours_and_never_to_the_null_path() -> None:
    def due(after: float, *, reported: bool = False, null_path: bool = False) -> bool:
        return PLAIN.delay_is_due(START, now=START + after, reported=reported, null_path=null_path)

    assert not due(4 * HOUR - 1)
    assert due(4 * HOUR)
    assert due(3 * DAY)
    assert not due(4 * HOUR, reported=True)
    assert not due(4 * HOUR, null_path=True)


def test_delay_notices_can_be_switched_off() -> None:
    settings = config.Schedule(delay_notice=SecondsOrOff.parse("0 s"))
    assert not Schedule(settings, lambda: 0.5).delay_is_due(
        START, now=START + 4 * DAY, reported=False
    )
