"""The matrix of faults: each system call, at each of its occurrences, times each error; played by
several servers side by side, and counted.

A column is one call in one scenario. It goes down the call's occurrences until one has not come
about. `whole` has a column for each error; `spread` has one for all, which takes turns.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from tests.faults.injection import ERRORS, KILL, Fault


@dataclass(slots=True)
class Tally:
    """What came of all cases."""

    cases: int = 0
    faults_injected: int = 0
    processes_killed: int = 0
    acknowledged: int = 0
    refused_for_now: int = 0
    connections_lost: int = 0
    lost: int = 0
    duplicated: int = 0
    partial: int = 0
    tried_again_by_operator: int = 0
    failures: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For a person to read."""
        counts = [each.name for each in fields(self) if each.name != "failures"]
        width = max(map(len, counts))
        said = [f"{name.replace('_', ' '):{width}} {getattr(self, name)}" for name in counts]
        return [*said, *self.failures]


@dataclass(frozen=True, slots=True)
class Column:
    """One call in one scenario, and the errors that its occurrences have in turn."""

    scenario: str
    call: str
    errors: Sequence[str]
    most: int = 1000
    """Occurrences that are tried."""

    def faults(self) -> Iterator[Fault]:
        for at, error in zip(range(1, self.most + 1), itertools.cycle(self.errors), strict=False):
            yield Fault(self.call, error, at)


class Lane(Protocol):
    """A server of its own, to which one fault after the other happens."""

    def attempt(self, scenario: str, fault: Fault) -> int:
        """Play one case, and count it; return how often the fault came about.

        AssertionError: it failed.
        """
        ...

    def renew(self) -> None:
        """A case has failed: begin anew, whatever state all is in."""
        ...

    def settle(self) -> None:
        """See how all has ended. AssertionError: badly."""
        ...

    def close(self) -> None: ...


def whole(scenarios: Iterable[str], calls: Iterable[str]) -> list[Column]:
    """Every error at every occurrence of every call."""
    return [
        Column(scenario, call, (error,))
        for scenario, call in itertools.product(scenarios, calls)
        for error in (*ERRORS, KILL)
    ]


def spread(scenarios: Iterable[str], calls: Iterable[str], *, most: int) -> list[Column]:
    """One error, another each time, at each of the first occurrences of every call."""
    kinds = deque((*ERRORS, KILL))
    columns = []
    for scenario, call in itertools.product(scenarios, calls):
        columns.append(Column(scenario, call, tuple(kinds), most))
        kinds.rotate(3)
    return columns


def play(columns: Sequence[Column], open_lane: Callable[[int, Tally], Lane], lanes: int) -> Tally:
    """Play all columns in so many lanes at the same time."""
    tally = Tally()
    left = deque(columns)
    threads = [
        threading.Thread(target=_play_lane, args=(left, open_lane, number, tally))
        for number in range(lanes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def _play_lane(
    left: deque[Column], open_lane: Callable[[int, Tally], Lane], number: int, tally: Tally
) -> None:
    try:
        lane = open_lane(number, tally)
        try:
            while True:
                try:
                    column = left.popleft()
                except IndexError:
                    break
                _play_column(column, lane, tally)
            _judged(tally, "at the end", lane.settle)
        finally:
            lane.close()
    except BaseException as error:
        tally.failures.append(f"lane {number}: {error!r}")
        raise


def _play_column(column: Column, lane: Lane, tally: Tally) -> None:
    for fault in column.faults():
        name = f"{column.scenario}: {fault}"
        count = _judged(tally, name, lambda fault=fault: lane.attempt(column.scenario, fault))  # type: ignore[misc]
        if count is None:
            lane.renew()
        elif count == 0:
            return


def _judged(tally: Tally, name: str, action: Callable[[], int | None]) -> int | None:
    try:
        return action()
    except AssertionError as error:
        tally.failures.append(f"{name}: {error}")
        return None
