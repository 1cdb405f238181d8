"""What is shared survives those who share it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pfsmtp.process.shared import Heartbeat, Numbers, SharedLock, Words
from tests.process.forked import Child

PRIVATE = 1 << 62


def test_words_written_by_a_child_are_read_by_its_parent() -> None:
    words = Words(4)
    Child(lambda: words.__setitem__(3, 2**64 - 1)).result()
    assert [words[index] for index in range(len(words))] == [0, 0, 0, 2**64 - 1]
    words.close()


def test_numbers_count_from_one() -> None:
    numbers = Numbers(block=2)
    assert [numbers.next() for _ in range(5)] == [1, 2, 3, 4, 5]


def test_no_number_is_given_twice_by_threads_and_processes() -> None:
    numbers = Numbers(block=7)
    given = [numbers.next()]
    children = [Child(lambda: _by_threads(numbers)) for _ in range(3)]
    given += _by_threads(numbers)
    for child in children:
        given += child.result()
    assert len(given) == len(set(given)) == 4 * 4 * 200 + 1
    assert max(given) < PRIVATE


def test_child_does_not_use_up_the_block_of_its_parent() -> None:
    numbers = Numbers(block=256)
    assert numbers.next() == 1
    assert Child(numbers.next).result() == 257
    assert numbers.next() == 2


def test_numbers_go_on_when_the_lock_cannot_be_had() -> None:
    numbers = Numbers(block=2, timeout=0.01)
    killed = Child(lambda: _hold_and_die(numbers._lock))
    killed.end()
    children = [Child(lambda: [numbers.next() for _ in range(5)]) for _ in range(2)]
    given = [number for child in children for number in child.result()]
    assert len(set(given)) == 10
    assert min(given) > PRIVATE
    assert max(given) < 1 << 63


def test_numbers_of_a_killed_holder_are_freed() -> None:
    numbers = Numbers(timeout=0.01)
    killed = Child(lambda: _hold_and_die(numbers._lock))
    killed.end()
    assert not numbers.free_dead(os.getpid())
    assert numbers.free_dead(killed.pid)
    assert numbers.next() == 1


def test_lock_is_held_by_one_at_a_time() -> None:
    lock = SharedLock()
    assert lock.acquire(0)
    assert not Child(lambda: lock.acquire(0.01)).result()
    lock.release()
    assert Child(lambda: lock.acquire(0.01)).result()


def test_lock_of_a_killed_holder_stays_held_until_it_is_freed() -> None:
    lock = SharedLock()
    killed = Child(lambda: _hold_and_die(lock))
    assert killed.end()[0] == -signal.SIGKILL
    assert not lock.acquire(0.01)
    assert lock.free_dead(killed.pid)
    assert not lock.free_dead(killed.pid)
    assert lock.acquire(0)
    assert not lock.acquire(0.01)


def test_waiting_for_the_lock_is_bounded() -> None:
    lock = SharedLock()
    lock.acquire(0)
    begun = time.monotonic()
    with lock.held(0.1) as taken:
        assert not taken
    assert 0.09 < time.monotonic() - begun < 5.0
    assert not lock.acquire(0), "what was not taken is not given back"


def test_holder_killed_before_it_was_noted_is_freed_at_the_second_look() -> None:
    lock = SharedLock()

    def take_and_die() -> None:
        lock._semaphore.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    killed = Child(take_and_die)
    killed.end()
    assert not lock.free_dead(killed.pid)
    assert not lock.free_unnoted()
    assert lock.free_unnoted()
    assert lock.acquire(0)
    assert not lock.free_unnoted()
    assert not lock.free_unnoted()


def test_two_holders_not_yet_noted_one_after_the_other_are_left_alone() -> None:
    lock = SharedLock()
    lock._semaphore.acquire()
    assert not lock.free_unnoted()
    lock.release()
    lock.acquire(0)
    lock.release()
    lock._semaphore.acquire()
    assert not lock.free_unnoted()


def test_lock_freed_under_its_holder_is_free_once() -> None:
    lock = SharedLock()
    lock.acquire(0)
    lock.free_dead(os.getpid())
    lock.release()
    assert lock.acquire(0)
    assert not lock.acquire(0)


def test_nothing_shared_has_a_name() -> None:
    before = os.listdir("/dev/shm")
    kept = (Numbers(), SharedLock(), Words(1), Heartbeat(0.0))
    assert os.listdir("/dev/shm") == before
    assert kept


@pytest.mark.parametrize("now", [0.0, 1234567.25])
def test_heartbeat_of_a_child_is_seen_by_its_parent(now: float) -> None:
    heartbeat = Heartbeat(1.5)
    assert heartbeat.last == 1.5
    Child(lambda: heartbeat.beat(now)).result()
    assert heartbeat.last == now
    heartbeat.close()


def _hold_and_die(lock: SharedLock) -> None:
    lock.acquire(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


def _by_threads(numbers: Numbers) -> list[int]:
    """Return 200 numbers from each of four threads."""
    given: list[int] = []

    def take() -> None:
        given.extend([numbers.next() for _ in range(200)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given
