"""Real processes put, deliver and steer at the same time, and are killed at any moment.

Every message that was acknowledged is delivered; twice only if its deliverer was killed between
handing it on and recording that. The counts are printed.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.mailqueue.entry import Selection, Wish
from pfsmtp.mailqueue.spool import Spool
from tests.mailqueue.conftest import DEFERRED, DELIVERED, Events, envelope

DOMAINS = [f"domain{number}.example" for number in range(20)]
PUTTERS, DELIVERERS = 3, 2
PATIENCE = 60.0  # seconds in which at least one more message is accepted, or delivered


class Journal:
    """A file to which processes append a line each, in one write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def close(self) -> None:
        os.close(self._fd)


def open_queue(path: Path, log: Events | None = None) -> Spool:
    """Open the queue for a process, whose ids are not those of any other.

    Each counts for itself, so it is not left to chance that their numbers differ: among tens of
    thousands of messages, an id would recur now and then.
    """
    numbers = itertools.count()
    own = (os.getpid() & 0xFFFF).to_bytes(2, "little")
    return Spool(
        path,
        deliverers=DELIVERERS,
        log=log or Events(),
        number=lambda: next(numbers),
        random=lambda _: own,
    )


def message(id: str, size: int) -> bytes:
    return (id.encode() + b"\r\n").ljust(size, b"x")


def put_for_ever(path: Path, accepted: Journal) -> None:
    """Put messages of all sizes; note each once it is acknowledged."""
    queue = open_queue(path)
    chance = random.Random(os.getpid())
    while True:
        size = chance.choice([20, 3000, 20_000, 150_000])
        domains = chance.sample(DOMAINS, chance.choice([1, 1, 1, 3]))
        intake = queue.begin(envelope(*(f"user@{domain}" for domain in domains)))
        intake.write(message(intake.id, size))
        intake.commit()
        for domain in domains:
            accepted.note(intake.id, domain)


def deliver_for_ever(path: Path, index: int, handed_on: Journal, recorded: Journal) -> None:
    """Hand messages on; note each before and after it is recorded."""
    log = Events()
    queue = open_queue(path, log)
    shard = queue.shard(index)
    chance = random.Random(os.getpid())
    while True:
        shard.hear(1)
        shard.keep_time(0)
        while (unit := shard.due(time.time())) is not None:
            lease = shard.claim(unit)
            if lease is None:
                continue
            entry = lease.entry
            assert b"".join(lease.body.pieces()) == message(entry.id, entry.size)
            if chance.random() < 0.1:
                lease.record({0: DEFERRED})
                lease.release(time.time())
                continue
            handed_on.note(entry.id, entry.domain)
            lease.record({0: DELIVERED})
            recorded.note(entry.id, entry.domain)


def steer_for_ever(path: Path) -> None:
    """Look at the queue and retry what waits, as operators do."""
    queue = open_queue(path)
    while True:
        list(queue.views(Selection()))
        queue.carry_out(Wish.RETRY, Selection(domain=random.choice(DOMAINS)))
        time.sleep(0.02)


class Processes:
    """The processes that run, each doing one of these works for ever."""

    def __init__(self, works: list[Callable[[], None]]) -> None:
        self._works = works
        self._pids: dict[int, int] = {}
        self.killed: Counter[int] = Counter()  # by work
        self.failed = 0  # which ended by themselves

    def start(self, number: int) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                self._works[number]()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        self._pids[number] = pid

    def kill(self, number: int) -> None:
        pid = self._pids.pop(number)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self.killed[number] += 1
        self.failed += not os.WIFSIGNALED(status)

    def kill_all(self) -> None:
        for number in list(self._pids):
            self.kill(number)


def await_all(progress: Callable[[], int], over: Callable[[], bool]) -> None:
    """Wait until it is over, for as long as there is progress."""
    before, deadline = -1, math.inf
    while not over():
        now = time.monotonic()
        if (made := progress()) != before:
            before, deadline = made, now + PATIENCE
        assert now < deadline, f"no progress after {made}"
        time.sleep(0.1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_of_all_kinds_of_processes_loses_nothing(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "queue"
    accepted, handed_on, recorded = (
        Journal(tmp_path / name) for name in ("accepted", "handed-on", "recorded")
    )
    works: list[Callable[[], None]] = [
        *[lambda: put_for_ever(path, accepted)] * PUTTERS,
        *[
            (lambda index=index: deliver_for_ever(path, index, handed_on, recorded))
            for index in range(DELIVERERS)
        ],
        lambda: steer_for_ever(path),
    ]
    chance = random.Random(seed)
    processes = Processes(works)
    deliverers = range(PUTTERS, PUTTERS + DELIVERERS)
    try:
        for number in range(len(works)):
            processes.start(number)
        await_all(lambda: len(accepted.lines()), lambda: len(accepted.lines()) > 50)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.01, 0.15))  # they work meanwhile
            number = chance.randrange(len(works))
            processes.kill(number)
            processes.start(number)
        processes.kill_all()
        for number in deliverers:
            processes.start(number)
        look = open_queue(path)
        await_all(lambda: len(recorded.lines()), lambda: not list(look.views(Selection())))
        look.close()
    finally:
        processes.kill_all()

    assert not processes.failed
    wanted = set(accepted.lines())
    killed = processes.killed.total()
    killed_deliverers = sum(processes.killed[number] for number in deliverers)
    counts = Counter(handed_on.lines())
    twice = [line for line, count in counts.items() if count > 1]
    print(
        f"{len(wanted)} accepted, {len(counts)} delivered, {len(twice)} of them twice,"
        f" {killed} processes killed, {killed_deliverers} of them deliverers"
    )
    assert len(wanted) == len(accepted.lines()), "an id recurred"
    assert wanted <= set(counts)
    # Each was killed with one message in hand at most.
    assert sum(count - 1 for count in counts.values()) <= killed_deliverers
    # What was recorded is never handed on again.
    assert max(Counter(recorded.lines()).values()) == 1
    # A body whose message is finished is left by a kill at that very moment; it is swept later.
    assert len(list((path / "bodies").iterdir())) <= killed
    for journal in (accepted, handed_on, recorded):
        journal.close()
