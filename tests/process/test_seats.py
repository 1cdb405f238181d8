"""Seats: one for each live worker, cleared in between."""

from __future__ import annotations

import os
import signal

from pfsmtp.process.seats import Seats
from tests.process.forked import Child


def test_each_process_has_a_seat_of_its_own() -> None:
    seats = Seats(8)
    taken = [Child(seats.take).result() for _ in range(4)]
    assert taken == [0, 1, 2, 3]


def test_seat_of_a_worker_that_died_is_found_by_its_pid_and_taken_again() -> None:
    seats = Seats(8)
    pid = Child(lambda: (seats.take(), os.getpid())[1]).result()
    assert seats.of(pid) == 0
    assert seats.of(os.getpid()) is None
    seats.free(0)
    assert Child(seats.take).result() == 0


def test_when_all_are_taken_the_last_is_shared() -> None:
    seats = Seats(2)
    assert [Child(seats.take).result() for _ in range(3)] == [0, 1, 1]


def test_holder_killed_while_it_takes_a_seat_stops_nobody() -> None:
    seats = Seats(4)

    def die_holding_the_lock() -> None:
        seats._lock.acquire(1.0)
        os.kill(os.getpid(), signal.SIGKILL)

    child = Child(die_holding_the_lock)
    child.end()
    assert seats.of(child.pid) is None
    assert Child(seats.take).result() == 0
