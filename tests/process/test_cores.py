"""Workers keep to one core while it has time for them, where they may choose."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.process.cores import Core, Meter, Usage
from tests.process.forked import Child
from tests.process.running import eventually, running

CROWDED = [Usage(second, 0.0) for second in range(10)]


class Days:
    """A core, and the usage that it shows at one look after the other.

    Of its time this process has a share, from the start on.
    """

    def __init__(
        self, usages: list[Usage | None], *, share: float = 0.1, settle: bool = True
    ) -> None:
        self._usages = iter(usages)
        self._share = share
        self._now = 0.0
        self.asked = 0
        self.core = Core(0, usage=self._usage, spent=self._spent)
        if settle:
            self.core.settle()

    def look(self, times: int) -> None:
        for _ in range(times):
            self.core.look()

    def _usage(self, core: int) -> Usage | None:
        usage = next(self._usages)
        if usage is not None:
            self._now = usage.now
        return usage

    def _spent(self) -> float:
        self.asked += 1
        return self._share * self._now


def in_child(body: Callable[[], None]) -> None:
    """Run what changes a process in one of its own."""
    assert Child(body).end()[0] == 0


def keeps_to() -> tuple[set[int], int]:
    """The cores and the policy that this thread has."""
    return os.sched_getaffinity(0), os.sched_getscheduler(0)


FREE = (os.sched_getaffinity(0), os.SCHED_OTHER)
SETTLED = ({min(os.sched_getaffinity(0))}, os.SCHED_BATCH)


@pytest.mark.parametrize("number", [0, 1, 2, -1, -2, 1000])
def test_worker_keeps_to_the_core_of_its_number(number: int) -> None:
    allowed = sorted(os.sched_getaffinity(0))

    def body() -> None:
        Core(number).settle()
        assert keeps_to() == ({allowed[number % len(allowed)]}, os.SCHED_BATCH)

    in_child(body)


def test_threads_that_it_starts_keep_to_it_too() -> None:
    def body() -> None:
        Core(0).settle()
        seen: list[tuple[set[int], int]] = []
        thread = threading.Thread(target=lambda: seen.append(keeps_to()))
        thread.start()
        thread.join()
        assert seen == [SETTLED]

    in_child(body)


def test_core_that_others_keep_busy_is_let_go_by_all_threads() -> None:
    def body() -> None:
        started, over = threading.Event(), threading.Event()
        seen: list[tuple[set[int], int]] = []

        def run() -> None:
            started.set()
            over.wait()
            seen.append(keeps_to())

        days = Days(list(CROWDED))
        thread = threading.Thread(target=run)
        thread.start()
        started.wait()
        days.look(3)
        assert keeps_to() == SETTLED  # one bad second is none
        days.look(1)
        assert keeps_to() == FREE
        over.set()
        thread.join()
        assert seen == [FREE]

    in_child(body)


@pytest.mark.parametrize(
    ("usages", "share"),
    [
        ([Usage(second, 0.1 * second) for second in range(10)], 0.1),
        ([Usage(second, 0.0) for second in range(10)], 0.5),
        ([Usage(0.1 * tenth, 0.0) for tenth in range(5)], 0.1),
        ([None] * 10, 0.1),
    ],
    ids=["it is idle at times", "it is ours", "too soon to say", "nobody knows"],
)
def test_core_is_kept(usages: list[Usage | None], share: float) -> None:
    def body() -> None:
        Days(usages, share=share).look(len(usages))
        assert keeps_to() == SETTLED

    in_child(body)


def test_good_second_between_bad_ones() -> None:
    idle = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]

    def body() -> None:
        days = Days([Usage(now, idle[now]) for now in range(len(idle))])
        days.look(len(idle))
        assert keeps_to() == SETTLED

    in_child(body)


def test_time_of_all_threads_is_asked_for_only_while_the_core_is_busy() -> None:
    idle = [0.0, 1.0, 2.0, 2.0, 2.0, 3.0, 4.0]

    def body() -> None:
        days = Days([Usage(now, idle[now]) for now in range(len(idle))])
        days.look(3)
        assert days.asked == 0
        days.look(2)
        assert days.asked == 2
        days.look(2)
        assert days.asked == 2

    in_child(body)


def test_core_is_tried_again_after_a_while() -> None:
    def body() -> None:
        days = Days([*CROWDED[:4], *(Usage(now, 0.0) for now in range(62, 70))])
        days.look(4)
        assert keeps_to() == FREE
        days.look(1)
        assert keeps_to() == FREE
        days.look(3)
        assert keeps_to() == SETTLED
        days.look(1)
        assert keeps_to() == FREE

    in_child(body)


def test_usage_of_a_core_that_computes() -> None:
    def body() -> None:
        core = min(os.sched_getaffinity(0))
        Core(core).settle()
        meter = Meter()
        before, until = meter.read(core), time.process_time() + 0.2
        assert before is not None
        while time.process_time() < until:
            sum(range(1000))
        after = meter.read(core)
        assert after is not None
        busy = (after.now - before.now) - (after.idle - before.idle)
        assert busy > 0.15  # in whole ticks

    in_child(body)


def test_usage_of_a_core_that_is_not_there() -> None:
    assert Meter().read(100_000) is None


def test_worker_that_may_not_choose_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, mask: set[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    core = Core(0)
    core.settle()
    core.look()


def test_worker_goes_on_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def lack(path: str, flags: int) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", lack)

    def body() -> None:
        core = Core(0)
        core.settle()
        core.look()
        assert keeps_to() == FREE

    in_child(body)


def test_look_says_for_what_share_of_its_time_the_core_was_taken() -> None:
    days = Days([Usage(0, 0.0), Usage(1, 0.75), Usage(3, 0.75), None], settle=False)
    assert [days.core.look() for _ in range(4)] == [0.0, 0.25, 1.0, None]


def test_body_is_told_how_busy_its_core_is(tmp_path: Path) -> None:
    with running(tmp_path, workers=1, core=0) as service:
        service.ready()
        with service.connect() as client:
            eventually(lambda: 0.0 < float(client.ask("core")) <= 1.0)


def test_body_that_keeps_to_no_core_is_told_nothing(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as service:
        service.ready()
        assert service.ask("core") == "None"
