"""O1, O2, O3: whatever call of queueing or relaying fails, or is the last, a 250 can be believed.

The short form gives each occurrence of each call one of the errors; the slow one gives it all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.matrix import Column, Lane, Tally, play, spread, whole
from tests.faults.outbound import (
    DELIVERER_CALLS,
    QUEUEING,
    RECEIVER_CALLS,
    RELAYING,
    DelivererLane,
    ReceiverLane,
    world,
)
from tests.figures import Show

LANES = 3
DISK = (
    *("fcntl", "fdatasync", "fsync", "openat", "pread64"),
    *("pwritev", "renameat2", "write", "writev"),
)


def played(columns: list[Column], kind: type[ReceiverLane | DelivererLane], path: Path) -> Tally:
    with world(path) as here:

        def lane(number: int, tally: Tally) -> Lane:
            return kind(path / str(number), tally, number, world=here)

        return play(columns, lane, LANES)


def test_fault_anywhere_in_queueing_loses_nothing_that_was_acknowledged(
    tmp_path: Path, show: Show
) -> None:
    columns = [
        *spread(("one",), RECEIVER_CALLS, most=8),
        *spread(("three", "large"), DISK, most=8),
        *spread(("empty",), ("fsync", "openat", "renameat2"), most=3),
    ]
    tally = played(columns, ReceiverLane, tmp_path)
    show("Faults of queueing", tally.lines())
    assert tally.failures == []
    assert tally.cases > 50


def test_fault_anywhere_in_relaying_loses_nothing_that_was_acknowledged(
    tmp_path: Path, show: Show
) -> None:
    columns = [
        *spread(("kept",), DELIVERER_CALLS, most=8),
        *spread(("unknown",), ("connect", "recvfrom", "sendto", "socket"), most=6),
        *spread(("long",), ("openat", "pread64", "unlinkat"), most=8),
    ]
    tally = played(columns, DelivererLane, tmp_path)
    show("Faults of relaying", tally.lines())
    assert tally.failures == []
    assert tally.cases > 20


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_fault_at_every_call_of_queueing_loses_nothing_that_was_acknowledged(
    tmp_path: Path, show: Show
) -> None:
    tally = played(whole(QUEUEING, RECEIVER_CALLS), ReceiverLane, tmp_path)
    show("Faults of queueing, all", tally.lines())
    assert tally.failures == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_fault_at_every_call_of_relaying_loses_nothing_that_was_acknowledged(
    tmp_path: Path, show: Show
) -> None:
    tally = played(whole(RELAYING, DELIVERER_CALLS), DelivererLane, tmp_path)
    show("Faults of relaying, all", tally.lines())
    assert tally.failures == []
