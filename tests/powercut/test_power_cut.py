"""I2 and O1: what a 250 is worth when the power fails.

The real servers work on a disk that keeps a record of writes and flushes; then the power fails at
moments of that record, some right after a 250, some anywhere. What was not flushed is there or not,
in any order, in whole or in part. What is left is mounted as a machine does that starts, and every
acknowledged recipient is looked for.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import needs
from tests.figures import Show
from tests.powercut import inbound, outbound
from tests.powercut.disk import BTRFS, EXT4, EXT4_WITHOUT_JOURNAL, XFS, FileSystem
from tests.powercut.run import Outcome, Plan
from tests.running.program import ROOT

SHORT = Plan(seconds=0.8, cuts=3, seed=11)

every_file_system = pytest.mark.parametrize(
    "filesystem", [EXT4, EXT4_WITHOUT_JOURNAL, XFS, BTRFS], ids=lambda each: each.name
)


@every_file_system
@pytest.mark.parametrize("sync", ["files", "filesystem"])
def test_i2_power_cut_leaves_what_inbound_has_acknowledged(
    tmp_path: Path, show: Show, filesystem: FileSystem, sync: str
) -> None:
    outcome = inbound.cut(tmp_path, filesystem, SHORT, sync=sync)
    show(f"Power cuts under inbound: {filesystem.name}, {sync}", outcome.lines(inbound.FIGURES))
    assert_nothing_lost(outcome)


@every_file_system
def test_o1_power_cut_leaves_what_outbound_has_acknowledged(
    tmp_path: Path, show: Show, filesystem: FileSystem
) -> None:
    outcome = outbound.cut(tmp_path, filesystem, SHORT)
    show(f"Power cuts under outbound: {filesystem.name}", outcome.lines(outbound.FIGURES))
    assert_nothing_lost(outcome)


def assert_nothing_lost(outcome: Outcome) -> None:
    assert outcome.faults == []
    assert outcome.figures["acknowledged"]
