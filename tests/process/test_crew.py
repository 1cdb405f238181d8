"""When seats are filled, and filled again: by the clock, without processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pfsmtp.process.crew import Crew, Member, Phase, Seat
from pfsmtp.process.privileges import Identity
from pfsmtp.process.service import Body, Context, Role, Timing
from pfsmtp.process.shared import Heartbeat

STATUS_1 = 1 << 8  # of exit status 1, as wait(2) has it


class SilentLog:
    def event(self, name: str, /, **fields: object) -> None: ...

    def bug(self, name: str, error: BaseException, /, **fields: object) -> None: ...

    def reopen(self) -> None: ...


@dataclass
class FakeGeneration:
    roles: Sequence[Role]
    identity: Identity | None = None

    def close(self) -> None: ...


@dataclass
class Maternity:
    """Gives birth to workers that are numbers only."""

    now: float = 0.0
    fails: bool = False
    born: list[str] = field(default_factory=list)

    def spawn(self, crew: Crew, seat: Seat) -> Member:
        if self.fails:
            raise BlockingIOError("Resource temporarily unavailable")
        self.born.append(seat.name)
        return Member(
            len(self.born), seat, Heartbeat(self.now), report=None, born=self.now, ready=True
        )


def test_every_seat_of_every_role_is_filled_once() -> None:
    crew, maternity = _crew(receiver=2, deliverer=1), Maternity()
    crew.fill(0.0, maternity.spawn)
    crew.fill(1.0, maternity.spawn)
    assert maternity.born == ["receiver 1", "receiver 2", "deliverer 1"]
    assert crew.all_ready()


def test_seat_of_a_worker_that_has_lived_is_due_at_once() -> None:
    crew, maternity = _crew(receiver=1), Maternity()
    crew.phase = Phase.SERVING
    assert [_life(crew, maternity, seconds=5.0) for _ in range(20)] == [0.0] * 20


def test_seat_of_a_worker_that_fails_at_once_is_due_later_and_later() -> None:
    crew, maternity = _crew(receiver=1), Maternity()
    crew.phase = Phase.SERVING
    waits = [_life(crew, maternity, seconds=0.25) for _ in range(13)]
    assert waits == [0.0] * 5 + [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_one_long_life_makes_up_for_all_short_ones() -> None:
    crew, maternity = _crew(receiver=1), Maternity()
    crew.phase = Phase.SERVING
    for _ in range(10):
        _life(crew, maternity, seconds=0.25)
    assert _life(crew, maternity, seconds=5.0) == 0.0
    assert _life(crew, maternity, seconds=0.25) == 0.0


def test_seat_can_fail_for_ever() -> None:
    crew, maternity = _crew(receiver=1), Maternity()
    crew.phase = Phase.SERVING
    crew.seats[0].failures = 10**6
    assert _life(crew, maternity, seconds=0.25) == 30.0


def test_other_seats_do_not_wait_for_one_that_fails() -> None:
    crew, maternity = _crew(receiver=2), Maternity()
    crew.phase = Phase.SERVING
    crew.seats[0].due = 100.0
    crew.fill(0.0, maternity.spawn)
    assert maternity.born == ["receiver 2"]
    assert crew.next_due() == 100.0


def test_fork_that_fails_is_tried_again_until_it_works() -> None:
    crew, maternity = _crew(receiver=1), Maternity(fails=True)
    crew.phase = Phase.SERVING
    for _ in range(8):
        crew.fill(crew.next_due(), maternity.spawn)
    maternity.fails = False
    crew.fill(crew.next_due(), maternity.spawn)
    assert crew.all_ready()


def test_generation_for_which_nobody_can_be_forked_is_given_up() -> None:
    crew, maternity = _crew(receiver=1), Maternity(fails=True)
    for _ in range(3):
        crew.fill(0.0, maternity.spawn)
    assert crew.failure.startswith("cannot fork receiver 1: Resource temporarily")


def test_generation_whose_workers_die_before_all_are_ready_is_given_up() -> None:
    crew, maternity = _crew(receiver=1), Maternity()
    for _ in range(3):
        assert crew.failure == ""
        _life(crew, maternity, seconds=0.25)
    assert crew.failure == "receiver 1 keeps dying, last with status 1"


def test_seats_are_added_to_and_taken_from_the_first_role() -> None:
    crew, maternity = _crew(receiver=1, deliverer=1), Maternity()
    assert crew.add_seat() == 2
    crew.fill(0.0, maternity.spawn)
    assert maternity.born == ["receiver 1", "deliverer 1", "receiver 2"]
    crew.members.clear()
    assert [crew.remove_seat(0.0), crew.remove_seat(0.0)] == [1, 1]
    assert [seat.name for seat in crew.seats] == ["receiver 1", "deliverer 1"]


def test_nothing_is_due_for_workers_that_are_well() -> None:
    crew, maternity = _crew(receiver=1), Maternity()
    assert crew.next_due() == -math.inf
    crew.fill(0.0, maternity.spawn)
    assert crew.next_due() == 60.0
    crew.phase = Phase.SERVING
    assert crew.next_due() == math.inf


def test_crew_is_sound_while_of_each_role_somebody_comes_round() -> None:
    crew, maternity = _crew(receiver=2, deliverer=1), Maternity()
    crew.fill(0.0, maternity.spawn)
    receiver, other, deliverer = crew.members.values()
    for member in (receiver, other, deliverer):
        member.heartbeat.beat(100.0)
    assert crew.is_sound(129.0, since=0.0)
    deliverer.heartbeat.beat(110.0)
    receiver.heartbeat.beat(110.0)
    assert crew.is_sound(135.0, since=0.0)
    deliverer.heartbeat.beat(115.0)
    assert not crew.is_sound(145.0, since=0.0)
    assert crew.is_sound(145.0, since=120.0), "we were stopped ourselves"
    receiver.heartbeat.beat(145.0)
    assert crew.is_sound(145.0, since=0.0)
    assert not crew.is_sound(146.0, since=0.0)


def test_crew_is_sound_while_a_role_has_nobody_and_another_serves() -> None:
    crew, maternity = _crew(receiver=1, deliverer=1), Maternity()
    crew.phase = Phase.SERVING
    crew.fill(0.0, maternity.spawn)
    crew.bury(2, STATUS_1, 10.0)
    maternity.fails = True
    crew.fill(10.0, maternity.spawn)
    crew.members[1].heartbeat.beat(10.0)
    assert crew.is_sound(10.0, since=0.0)


def test_crew_is_not_sound_while_nobody_serves() -> None:
    crew, maternity = _crew(receiver=1, deliverer=1), Maternity()
    crew.phase = Phase.SERVING
    crew.fill(0.0, maternity.spawn)
    for number in (1, 2):
        crew.bury(number, STATUS_1, 10.0)
    maternity.fails = True
    crew.fill(10.0, maternity.spawn)
    assert not crew.is_sound(10.0, since=0.0)
    maternity.now, maternity.fails = 20.0, False
    crew.fill(20.0, maternity.spawn)
    assert not crew.is_sound(20.5, since=0.0), "it may die at once"
    assert crew.is_sound(21.0, since=0.0)


def test_seats_that_stay_empty_are_told_of_until_they_are_served() -> None:
    crew, maternity = _crew(receiver=1, deliverer=2), Maternity()
    crew.phase = Phase.SERVING
    crew.fill(0.0, maternity.spawn)
    crew.bury(2, STATUS_1, 10.0)
    assert crew.failing(10.0, since=0.0) == "", "it had lasted"
    maternity.now = 10.0
    crew.fill(10.0, maternity.spawn)
    crew.members[4].refusal = "no queue"
    crew.bury(4, STATUS_1, 10.5)
    assert crew.failing(10.5, since=0.0) == "deliverer 1 down: cannot start: no queue"
    crew.bury(3, STATUS_1, 10.5)
    maternity.fails = True
    crew.fill(10.5, maternity.spawn)
    assert crew.failing(10.5, since=0.0) == (
        "deliverer 1, deliverer 2 down: cannot be forked: Resource temporarily unavailable"
    )
    maternity.now, maternity.fails = 20.0, False
    crew.fill(20.0, maternity.spawn)
    crew.bury(6, 9, 20.5)
    assert crew.failing(20.9, since=0.0).startswith("deliverer 1, deliverer 2 down: ")
    assert crew.failing(21.0, since=0.0) == "deliverer 2 down: ended with signal 9"
    maternity.now = 30.0
    crew.fill(30.0, maternity.spawn)
    assert crew.failing(31.0, since=0.0) == ""


def test_seat_of_a_worker_that_hangs_is_told_of_until_another_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Member, "signal", lambda member, number: None)
    crew, maternity = _crew(receiver=2), Maternity()
    crew.phase = Phase.SERVING
    crew.fill(0.0, maternity.spawn)
    crew.members[1].heartbeat.beat(40.0)
    crew.watch(40.0, since=0.0)
    assert crew.failing(40.0, since=0.0) == "receiver 2 down: hangs"
    crew.bury(2, 9, 41.0)
    assert crew.failing(41.0, since=0.0) == ""


def test_crew_is_not_sound_while_all_workers_die_as_soon_as_they_are_ready() -> None:
    crew, maternity = _crew(receiver=1), Maternity()
    crew.phase = Phase.SERVING
    for _ in range(20):
        crew.fill(crew.next_due(), maternity.spawn)
        assert not crew.is_sound(maternity.now + 0.9, since=0.0)
        crew.bury(len(maternity.born), STATUS_1, maternity.now + 0.9)
        maternity.now = crew.next_due()


def test_crew_is_not_sound_by_those_who_have_been_told_to_leave() -> None:
    crew, maternity = _crew(receiver=2), Maternity()
    crew.fill(0.0, maternity.spawn)
    crew.seats.remove(crew.members[2].seat)
    assert crew.is_sound(10.0, since=0.0)
    del crew.members[1]
    assert not crew.is_sound(10.0, since=0.0)


def _crew(**counts: int) -> Crew:
    roles = [Role(name, count, _make) for name, count in counts.items()]
    return Crew(1, FakeGeneration(roles), log=SilentLog(), timing=Timing(), begun=0.0)


def _make(context: Context) -> Body:
    raise AssertionError("nobody is forked here")


def _life(crew: Crew, maternity: Maternity, *, seconds: float) -> float:
    """Let the first seat's next worker live so long; return for how long it is then empty."""
    maternity.now = max(maternity.now, crew.seats[0].due)
    crew.fill(maternity.now, maternity.spawn)
    maternity.now += seconds
    crew.bury(len(maternity.born), STATUS_1, maternity.now)
    return crew.seats[0].due - maternity.now
