"""Figures that tests have taken, shown behind the results (not with `-q`).

`--figures FILE` keeps them, too, beside those that other tests have left there: by test, as JSON.
What a test showed that failed is not kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

Show = Callable[[str, Iterable[str]], None]


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
        failed = {report.nodeid for report in terminalreporter.getreports("failed")}
        _keep(config.option.figures, [each for each in figures if each.test not in failed])
    if config.get_verbosity() < 0:
        return
    for figure in figures:
        terminalreporter.section(figure.title)
        for line in figure.lines:
            terminalreporter.line(line)


def _keep(path: Path, figures: Iterable[Figure]) -> None:
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept: dict[str, list[str]] = {}
    for test, _title, lines in figures:
        kept.setdefault(test.removeprefix("tests/"), []).extend(lines)
    text = json.dumps({**known, **kept}, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")
