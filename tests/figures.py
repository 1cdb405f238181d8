"""Figures that tests have taken, shown behind the results (not with `-q`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

Show = Callable[[str, Iterable[str]], None]

_FIGURES = pytest.StashKey[list[tuple[str, list[str]]]]()


@pytest.fixture(scope="session")
def show(pytestconfig: pytest.Config) -> Show:
    """Have lines shown under a title at the end."""
    figures = pytestconfig.stash.setdefault(_FIGURES, [])

    def show(title: str, lines: Iterable[str]) -> None:
        figures.append((title, list(lines)))

    return show


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.get_verbosity() < 0:
        return
    for title, lines in config.stash.get(_FIGURES, []):
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)
