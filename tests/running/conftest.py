"""What the tests of running servers have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running.program import Program


@pytest.fixture
def inbound(tmp_path: Path) -> Iterator[Program]:
    """An inbound server as it is shipped, but for its addresses."""
    with Program.inbound(tmp_path) as server:
        yield server
