"""I2 and O1: what a 250 is worth when the power fails.

The real servers work on a disk that keeps a record of writes and flushes; then the power fails at
moments of that record, some right after a 250, some anywhere. What was not flushed is there or not,
in any order, in whole or in part. What is left is mounted as a machine does that starts, and every
acknowledged recipient is looked for.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests import needs
from tests.figures import Show
from tests.powercut import inbound, outbound
from tests.powercut.disk import BTRFS, EXT4, EXT4_WITHOUT_JOURNAL, XFS, FileSystem
from tests.powercut.run import Plan
from tests.running.program import ROOT

SHORT_INBOUND = Plan(messages=250, cuts=3, seed=11)
SHORT_OUTBOUND = Plan(messages=120, cuts=2, seed=11)
LONG_INBOUND = Plan(messages=1500, cuts=50, seed=12, restarts=True)
LONG_OUTBOUND = Plan(messages=400, cuts=15, seed=13, patient=True)
LONG = 1800  # seconds

every_file_system = pytest.mark.parametrize(
    "filesystem", [EXT4, EXT4_WITHOUT_JOURNAL, XFS, BTRFS], ids=lambda each: each.name
)


every_sync = pytest.mark.parametrize("sync", ["files", "filesystem"])


@every_file_system
@every_sync
def test_i2_power_cut_leaves_what_inbound_has_acknowledged(
    tmp_path: Path, show: Show, filesystem: FileSystem, sync: str
) -> None:
    hold_inbound(tmp_path, show, filesystem, sync, plan=SHORT_INBOUND)


@pytest.mark.slow
@pytest.mark.timeout(LONG)
@every_file_system
@every_sync
def test_i2_more_power_cuts_leave_what_inbound_has_acknowledged(
    tmp_path: Path, show: Show, filesystem: FileSystem, sync: str
) -> None:
    hold_inbound(tmp_path, show, filesystem, sync, plan=LONG_INBOUND)


@every_file_system
def test_o1_power_cut_leaves_what_outbound_has_acknowledged(
    tmp_path: Path, show: Show, filesystem: FileSystem
) -> None:
    hold_outbound(tmp_path, show, filesystem, plan=SHORT_OUTBOUND)


@pytest.mark.slow
@pytest.mark.timeout(LONG)
@every_file_system
def test_o1_more_power_cuts_leave_what_outbound_has_acknowledged(
    tmp_path: Path, show: Show, filesystem: FileSystem
) -> None:
    hold_outbound(tmp_path, show, filesystem, plan=LONG_OUTBOUND)


def hold_inbound(
    directory: Path, show: Show, filesystem: FileSystem, sync: str, *, plan: Plan
) -> None:
    outcome = inbound.cut(directory, filesystem, plan, sync=sync)
    lines = [f"{filesystem.name}, {sync}", *outcome.lines(inbound.FIGURES)]
    show("Power cuts under the inbound server", lines)
    assert outcome.faults == []


def hold_outbound(directory: Path, show: Show, filesystem: FileSystem, *, plan: Plan) -> None:
    outcome = outbound.cut(directory, filesystem, plan)
    lines = [filesystem.name, *outcome.lines(outbound.FIGURES)]
    show("Power cuts under the outbound server", lines)
    assert outcome.faults == []


@pytest.fixture(scope="module")
def unsynced(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that lets a server believe that what it wrote is on disk."""
    library = tmp_path_factory.mktemp("unsynced") / "unsynced.so"
    source = ROOT / "tests" / "powercut" / "unsynced.c"
    compiler = needs.tool("gcc")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"],
        check=True,
    )
    return str(library)


@pytest.mark.parametrize(
    ("sync", "left_out"), [("files", "files"), ("files", "directories"), ("filesystem", "all")]
)
def test_inbound_that_does_not_sync_loses_mail(
    tmp_path: Path, unsynced: str, sync: str, left_out: str
) -> None:
    """So that it is known what the tests above would see."""
    plan = replace(
        SHORT_INBOUND, cuts=9, environment={"LD_PRELOAD": unsynced, "UNSYNCED": left_out}
    )
    outcome = inbound.cut(tmp_path, EXT4, plan, sync=sync)
    assert outcome.figures["missing"] > 0
    assert len(outcome.faults) >= outcome.figures["missing"]


@pytest.mark.parametrize(("left_out", "harm"), [("files", "missing"), ("records", "duplicated")])
def test_outbound_that_does_not_sync_loses_mail_or_sends_it_twice(
    tmp_path: Path, unsynced: str, left_out: str, harm: str
) -> None:
    plan = replace(SHORT_OUTBOUND, environment={"LD_PRELOAD": unsynced, "UNSYNCED": left_out})
    outcome = outbound.cut(tmp_path, EXT4, plan)
    assert outcome.figures[harm] > 0
    assert len(outcome.faults) >= outcome.figures[harm]
