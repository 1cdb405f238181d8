"""What the tests of running servers have in common."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running.program import Program


def require(*commands: str) -> None:
    """Skip where a program is missing; in CI, where everything is installed, fail."""
    for command in commands:
        if shutil.which(command) is None:
            reason = f"{command} is not installed (see tests/debian-packages.txt)"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


@pytest.fixture
def need() -> Callable[..., None]:
    return require


@pytest.fixture
def inbound(tmp_path: Path) -> Iterator[Program]:
    """An inbound server as it is shipped, but for its addresses."""
    with Program.inbound(tmp_path) as server:
        yield server
