"""What tests need of the machine: without it they are skipped with the reason, and fail in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """End the test: a failure where CI is set, else a skip."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def tool(name: str) -> str:
    """The path of a program."""
    found = shutil.which(name)
    if found is None:
        lacking(f"needs {name} (apt install {name})")
    return found


def root() -> None:
    """To be root, which not everybody is in CI either."""
    if os.geteuid() != 0:
        pytest.skip("only root can do this")
