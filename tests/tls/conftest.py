from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pfsmtp.log import Log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log", "json")
    yield log
    log.close()


@pytest.fixture
def events(tmp_path: Path, log: Log) -> Callable[[], list[dict[str, Any]]]:
    """What has been logged."""

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]

    return read
