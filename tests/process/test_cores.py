"""Workers keep to one core, where they may choose."""

from __future__ import annotations

import os
import threading

import pytest

from pfsmtp.process import cores
from tests.process.forked import Child


def cores_after(number: int) -> tuple[set[int], set[int]]:
    """The cores that a thread is left with, and one that it starts then."""
    cores.keep_to_one(number)
    of_thread: list[set[int]] = []
    thread = threading.Thread(target=lambda: of_thread.append(os.sched_getaffinity(0)))
    thread.start()
    thread.join()
    return os.sched_getaffinity(0), of_thread[0]


@pytest.mark.parametrize("number", [0, 1, 2, -1, -2, 1000])
def test_worker_keeps_to_the_core_of_its_number_with_all_its_threads(number: int) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    expected = {allowed[number % len(allowed)]}

    def body() -> None:
        assert cores_after(number) == (expected, expected)

    assert Child(body).end()[0] == 0


def test_worker_that_may_not_choose_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, mask: set[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    cores.keep_to_one(0)
