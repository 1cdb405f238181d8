"""Every script starts; what takes hours to measure is seen to fail before that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if "\ndef main(" in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_tells_its_options(script: str) -> None:
    command = [sys.executable, "-W", "error", str(BENCH / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout or "--messages" in done.stdout or "--waiting" in done.stdout


def test_every_script_is_described() -> None:
    described = (BENCH / "README.md").read_text()
    assert [script for script in SCRIPTS if f"| `{script}` |" not in described] == []


def test_cell_that_is_none_is_refused_before_anything_is_measured() -> None:
    command = [sys.executable, str(BENCH / "inbound.py"), "--cells", "10:1k:often"]
    command += ["--only", "pfsmtp", "--pfsmtp", "false"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "'10:1k:often' is no cell" in done.stderr
