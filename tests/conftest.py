"""Where the tests work: in a directory of this run's own.

pytest's shared one is closed to other users whenever a run begins, and servers that were started by
root run as other users. It is removed at the end, unless something failed.
"""

from __future__ import annotations

import shutil
import tempfile

import pytest
from hypothesis import settings

from tests.figures import pytest_addoption, pytest_terminal_summary, show

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "show",
]

# How long an example takes says nothing where others work, too.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.option.basetemp = tempfile.mkdtemp(prefix="pfsmtp-tests-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    base = session.config.option.basetemp
    if exitstatus == pytest.ExitCode.OK and base and "pfsmtp-tests-" in str(base):
        shutil.rmtree(base, ignore_errors=True)
