from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pfsmtp.policy.limits import ClientLimits, ClientTable, cells_of
from pfsmtp.smtp.reply import After

CLIENT = "192.0.2.1"
OTHER = "192.0.2.2"


@dataclass(slots=True)
class Clock:
    now: float = 1_000_000 * 60.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table() -> ClientTable:
    return ClientTable(8)


@pytest.fixture
def sit(table: ClientTable, clock: Clock) -> Callable[[int], ClientLimits]:
    """A worker at the table: 3 connections at once, 10 a minute, 5 unknown users."""
    return lambda seat: ClientLimits(table, seat, connections=3, rate=10, failures=5, clock=clock)


@pytest.fixture
def limits(sit: Callable[[int], ClientLimits]) -> ClientLimits:
    return sit(0)


def entered(limits: ClientLimits, address: str, times: int) -> int:
    """How many of so many connections are let in."""
    return sum(limits.enter(address) is None for _ in range(times))


def test_connections_at_once(limits: ClientLimits) -> None:
    assert entered(limits, CLIENT, 5) == 3
    limits.leave(CLIENT)
    assert entered(limits, CLIENT, 5) == 1


def test_refusal_is_421_with_its_reason_and_ends_the_connection(limits: ClientLimits) -> None:
    entered(limits, CLIENT, 3)
    reply = limits.enter(CLIENT)
    assert reply is not None
    assert reply.octets.startswith(b"421 4.7.0 Too many connections from your network at once")
    assert reply.after is After.CLOSE


def test_another_client_has_its_own_count(limits: ClientLimits) -> None:
    entered(limits, CLIENT, 5)
    assert entered(limits, OTHER, 5) == 3


def test_workers_count_together(sit: Callable[[int], ClientLimits]) -> None:
    workers = [sit(seat) for seat in range(3)]
    assert [entered(worker, CLIENT, 2) for worker in workers] == [2, 1, 0]
    workers[0].leave(CLIENT)
    assert entered(workers[2], CLIENT, 2) == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_is_exempt(limits: ClientLimits, address: str) -> None:
    assert entered(limits, address, 100) == 100
    limits.leave(address)
    assert all(limits.failed(address) is None for _ in range(100))


def test_ipv6_clients_are_networks_of_64_bits(limits: ClientLimits) -> None:
    assert entered(limits, "2001:db8::1", 2) == 2
    assert entered(limits, "2001:db8:0:0:ffff::2", 2) == 1
    assert entered(limits, "2001:db8:0:1::1", 2) == 2


def test_zone_of_a_link_local_address_is_no_part_of_it(limits: ClientLimits) -> None:
    assert entered(limits, "fe80::1%eth0", 3) == 3
    assert entered(limits, "fe80::2%eth1", 3) == 0


def come_and_go(limits: ClientLimits, address: str, times: int) -> int:
    count = 0
    for _ in range(times):
        if limits.enter(address) is None:
            limits.leave(address)
            count += 1
    return count


def test_connections_in_a_minute(sit: Callable[[int], ClientLimits]) -> None:
    one, other = sit(0), sit(1)
    assert come_and_go(one, CLIENT, 6) + come_and_go(other, CLIENT, 6) == 10
    reply = one.enter(CLIENT)
    assert reply is not None
    assert reply.octets.startswith(b"421 4.7.0 Too many connections from your network in a minute")


def test_rate_comes_back_as_time_passes(limits: ClientLimits, clock: Clock) -> None:
    assert come_and_go(limits, CLIENT, 20) == 10
    clock.now += 59.9
    assert come_and_go(limits, CLIENT, 20) == 0
    clock.now += 0.1 + 30.0
    assert come_and_go(limits, CLIENT, 20) == 5
    clock.now += 60.0
    assert come_and_go(limits, CLIENT, 20) == 7
    clock.now += 120.0
    assert come_and_go(limits, CLIENT, 20) == 10


def test_who_knocks_without_end_still_gets_the_rate(limits: ClientLimits, clock: Clock) -> None:
    """Refused attempts do not count: else a client that keeps trying would never get in again."""
    let_in = 0
    for _ in range(600):
        let_in += come_and_go(limits, CLIENT, 5)
        clock.now += 1.0
    assert 90 <= let_in <= 100


def test_refused_connections_hold_nothing(limits: ClientLimits, clock: Clock) -> None:
    come_and_go(limits, CLIENT, 30)
    clock.now += 120.0
    assert entered(limits, CLIENT, 5) == 3


def test_unknown_users(limits: ClientLimits, clock: Clock) -> None:
    replies = [limits.failed(CLIENT) for _ in range(6)]
    assert replies[:5] == [None] * 5
    reply = replies[5]
    assert reply is not None
    assert reply.octets.startswith(b"421 4.7.0 Too many unknown recipients")
    assert reply.after is After.CLOSE
    assert limits.enter(CLIENT) == reply
    assert limits.enter(OTHER) is None
    clock.now += 120.0
    assert limits.enter(CLIENT) is None


def test_worker_that_takes_a_seat_gives_back_what_the_dead_one_held(
    sit: Callable[[int], ClientLimits],
) -> None:
    one, other = sit(0), sit(1)
    assert entered(one, CLIENT, 1) + entered(other, CLIENT, 2) == 3
    sit(1)
    assert entered(one, CLIENT, 5) == 2


def test_worker_that_is_forgotten_holds_nothing(
    table: ClientTable, sit: Callable[[int], ClientLimits]
) -> None:
    one, other = sit(0), sit(7)
    assert entered(one, CLIENT, 1) + entered(other, CLIENT, 2) == 3
    table.forget_worker(7)
    assert entered(one, CLIENT, 5) == 2
    table.forget_worker(0)
    assert entered(sit(2), CLIENT, 5) == 3


def test_column_that_was_cleared_under_a_worker_counts_on_from_nothing(
    sit: Callable[[int], ClientLimits],
) -> None:
    one = sit(7)
    assert entered(one, CLIENT, 2) == 2
    sit(7)
    one.leave(CLIENT)
    one.leave(CLIENT)
    assert entered(one, CLIENT, 5) == 3


def killed_worker(work: Callable[[], None]) -> None:
    """Let a child work, and kill it before it can give anything back."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_kill_9_of_a_worker_holds_up_nobody(
    table: ClientTable, sit: Callable[[int], ClientLimits]
) -> None:
    survivor = sit(0)
    killed_worker(lambda: None if entered(sit(1), CLIENT, 3) == 3 else os._exit(1))
    assert survivor.enter(CLIENT) is not None
    table.forget_worker(1)
    assert entered(survivor, CLIENT, 5) == 3


ROUNDS = 100


def test_workers_that_run_at_once_let_in_no_more_than_the_limit(table: ClientTable) -> None:
    """Four processes of four threads race for the ten places of one client after the other."""
    reader, writer = os.pipe()
    children = []
    for seat in range(4):
        child = os.fork()
        if child == 0:
            _race(ClientLimits(table, seat, connections=10, rate=1000), writer)
        children.append(child)
    os.close(writer)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reader, "rb") as answers:
        let_in = [0] * ROUNDS
        for number in answers.read():
            let_in[number] += 1
    assert max(let_in) <= 10
    assert min(let_in) >= 1


def _race(limits: ClientLimits, answers: int) -> None:
    """Report each connection that was let in, by the number of its client."""

    def run() -> None:
        for number in range(ROUNDS):
            for _ in range(20):
                if limits.enter(f"192.0.2.{number}") is None:
                    os.write(answers, bytes([number]))

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)


def test_many_clients_at_their_limits_do_not_hinder_others(table: ClientTable) -> None:
    limits = ClientLimits(table, 0, connections=10, rate=30)
    for number in range(1000):
        busy = f"10.0.{number >> 8}.{number & 255}"
        assert come_and_go(limits, busy, 20) == 20
        assert entered(limits, busy, 10) == 10
    others = [f"10.1.{number >> 8}.{number & 255}" for number in range(10_000)]
    assert sum(come_and_go(limits, other, 1) for other in others) >= len(others) - 4


@pytest.mark.parametrize("address", [CLIENT, OTHER, "2001:db8::1", "fe80::1"])
def test_cells_of_a_client_are_in_four_rows(address: str) -> None:
    assert [cell >> 14 for cell in cells_of(address)] == [0, 1, 2, 3]


def test_nothing_is_left_behind_in_dev_shm() -> None:
    before = set(os.listdir("/dev/shm"))
    ClientLimits(ClientTable(64), 63, connections=1, rate=1).enter(CLIENT)
    assert set(os.listdir("/dev/shm")) == before
