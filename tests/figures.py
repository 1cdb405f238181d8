"""Figures that tests have taken, shown behind the results (not with `-q`).

`--figures FILE` keeps them, too, beside those that other tests have left there: by test, as JSON.
Those of a test that failed begin with `FAILED`, until it passes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import NamedTuple

import pytest

Show = Callable[[str, Iterable[str]], None]

FAILED = "**failed**"
"""Stands before what a test has shown that failed."""


class Figure(NamedTuple):
    """What a test has shown."""

    test: str
    title: str
    lines: list[str]


_FIGURES = pytest.StashKey[list[Figure]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="keep the figures that tests take in this file")


@pytest.fixture(scope="session")
def show(pytestconfig: pytest.Config) -> Show:
    """Have lines shown under a title at the end."""
    figures = pytestconfig.stash.setdefault(_FIGURES, [])

    def show(title: str, lines: Iterable[str]) -> None:
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        figures.append(Figure(test, title, list(lines)))

    return show


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = config.stash.get(_FIGURES, [])
    if config.option.figures is not None:
        keep(
            config.option.figures,
            figures,
            failed=_tests(terminalreporter, "failed", "error"),
            passed=_tests(terminalreporter, "passed"),
        )
    if config.get_verbosity() < 0:
        return
    for figure in figures:
        terminalreporter.section(figure.title)
        for line in figure.lines:
            terminalreporter.line(line)


def _tests(terminalreporter: pytest.TerminalReporter, *outcomes: str) -> set[str]:
    return {
        report.nodeid for outcome in outcomes for report in terminalreporter.getreports(outcome)
    }


def keep(path: Path, figures: Iterable[Figure], *, failed: Set[str], passed: Set[str]) -> None:
    """Put them into the file, beside what is there. Other processes may do the same."""
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = json.loads(file.read() or "{}")
        kept = merged(known, figures, failed=failed, passed=passed)
        text = json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False)
        file.truncate(0)
        file.write(f"{text}\n")


def merged(
    known: Mapping[str, list[str]],
    figures: Iterable[Figure],
    *,
    failed: Set[str],
    passed: Set[str],
) -> dict[str, list[str]]:
    """The figures that were known, and those of tests that have just run, by test."""
    found = {_name(test): [FAILED] for test in failed}
    for test, _title, lines in figures:
        found.setdefault(_name(test), []).extend(lines)
    mended = {_name(test) for test in passed}
    still = {
        test: lines for test, lines in known.items() if not (test in mended and FAILED in lines)
    }
    return {**still, **found}


def _name(test: str) -> str:
    return test.removeprefix("tests/")
