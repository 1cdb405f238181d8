"""I1, I3, I4, I10: whatever call of a delivery fails, or is the last, a 250 can be believed.

The short form gives each occurrence of each call one of the errors; the slow one gives it all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.inbound import CALLS, SCENARIOS, UNDOING, InboundLane
from tests.faults.matrix import Column, Tally, play, spread, whole
from tests.figures import Show

LANES = 3


def played(columns: list[Column], directory: Path) -> Tally:
    def lane(number: int, tally: Tally) -> InboundLane:
        return InboundLane(directory / str(number), tally, number)

    return play(columns, lane, LANES)


def test_fault_anywhere_in_a_delivery_loses_nothing_that_was_acknowledged(
    tmp_path: Path, show: Show
) -> None:
    columns = [
        *spread(("one", "new", "many"), CALLS, most=8),
        *spread(("large",), ("copy_file_range", "fsync", "openat", "renameat2", "writev"), most=8),
        *spread(UNDOING, ("unlinkat",), most=2),
    ]
    tally = played(columns, tmp_path)
    show("Faults of deliveries", tally.lines())
    assert tally.failures == []
    assert tally.cases > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_fault_at_every_call_of_a_delivery_loses_nothing_that_was_acknowledged(
    tmp_path: Path, show: Show
) -> None:
    columns = [*whole(SCENARIOS, CALLS), *whole(UNDOING, ("unlinkat",))]
    tally = played(columns, tmp_path)
    show("Faults of deliveries, all", tally.lines())
    assert tally.failures == []
