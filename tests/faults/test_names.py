"""I6, I7: names do not recur though PIDs do, the counter begins anew, and the clock is set back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests import disks, needs
from tests.faults.naming import Found
from tests.figures import Show
from tests.running.program import ROOT

Deliver = Callable[..., Found]


@pytest.fixture
def deliver(tmp_path: Path) -> Iterator[Deliver]:
    """Deliver so many messages in a namespace with few PIDs, under a clock that is set back."""
    needs.root()
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 14):
        pytest.skip("kernel.pid_max is that of the whole machine before Linux 6.14")
    clock = tmp_path / "clock.so"
    subprocess.run(
        [needs.tool("gcc"), "-shared", "-fPIC", "-O1", "-o", clock, ROOT / "tests/faults/clock.c"],
        check=True,
    )

    def deliver(count: int, *options: str) -> Found:
        namespace = (needs.tool("unshare", package="util-linux"), "--pid", "--fork", "--mount-proc")
        command = (sys.executable, "-m", "tests.faults.naming", str(disk), str(count), *options)
        ran = subprocess.run(
            [*namespace, *command],
            cwd=ROOT,
            env=os.environ | {"LD_PRELOAD": str(clock)},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return Found(**json.loads(ran.stdout))

    with disks.tmpfs(tmp_path / "mail", "size=1g") as disk:
        yield deliver


def lines(found: Found) -> list[str]:
    return [f"{name.replace('_', ' '):11} {value}" for name, value in asdict(found).items()]


def check(found: Found) -> None:
    assert found.pids < found.processes / 2, "PIDs have not recurred"
    assert found.steps_back > 0, "the clock was not set back"
    assert (found.names_twice, found.missing, found.overwritten) == (0, 0, 0)


def test_names_of_files_never_recur(deliver: Deliver, show: Show) -> None:
    found = deliver(20_000)
    show("Names", lines(found))
    assert found.deliveries >= 20_000
    check(found)


def test_names_would_recur_but_for_their_random_bits(deliver: Deliver) -> None:
    found = deliver(5_000, "--without-chance")
    assert found.names_twice > 0
    assert (found.missing, found.overwritten) == (0, 0), "a file was replaced"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_names_of_a_million_files_never_recur(deliver: Deliver, show: Show) -> None:
    found = deliver(1_000_000)
    show("Names of a million", lines(found))
    assert found.deliveries >= 1_000_000
    check(found)
