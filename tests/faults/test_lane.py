"""What the lanes hold against a case."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.lane import ServerLane
from tests.faults.matrix import Tally
from tests.running.program import Program


def test_traceback_is_held_against_the_case_that_brought_it_and_no_other(tmp_path: Path) -> None:
    lane = ServerLane(Program.inbound(tmp_path), Tally(), 1)
    try:
        worker = lane.worker("receiver 1")
        with lane.server.errors.open("a") as errors:
            errors.write("Traceback (most recent call last):\n")
        with pytest.raises(AssertionError, match="Traceback"):
            lane.check_worker("receiver", worker, None)
        lane.check_worker("receiver", worker, None)
    finally:
        lane.close()
