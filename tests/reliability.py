"""What the servers withstand, and which test holds it: writes docs/reliability.md.

    python -m tests.reliability             write the page
    python -m tests.reliability --check     say whether it is up to date, and the tests exist

A row of the data file, reliability.toml, is a promise or something that goes wrong, with the tests
that hold it, each a file below `tests/` and a name, perhaps with the case in brackets. One without
is shown as not yet held. Figures are those that the tests have shown, as
`pytest --figures tests/reliability.json` keeps them, and the number of cases where they show none.
A row of whose tests one failed when it last ran is not held.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.figures import FAILED

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DATA = TESTS / "reliability.toml"
FIGURES = TESTS / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"

NOT_HELD = "**not yet held**"
NO_FIGURE = "-"
_TABLE = 25
"""Lines from which on a figure is a table of cases."""
_HEAD = """# What the servers withstand

Every promise, and everything that is known to go wrong in the world, with the tests that hold it.
This page is written by `python -m tests.reliability` from `tests/reliability.toml`; the figures are
those of the last `pytest --figures tests/reliability.json`, as is what failed. Files are those
below `tests/`.
Cases are runs of one test with other input. Of a single run that counts nothing, the figure is `-`.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A promise or a danger."""

    group: str
    text: str
    tests: Sequence[str] = ()
    lacks: str = ""
    """The part that no test holds."""
    note: str = ""
    arises: bool = True

    @property
    def held(self) -> bool:
        return (bool(self.tests) and not self.lacks) or not self.arises


@dataclass(slots=True)
class Names:
    """Tests that exist, with and without their cases."""

    known: set[str] = field(default_factory=set)

    @classmethod
    def collected(cls, files: Iterable[str]) -> Names:
        """Ask pytest, also for those that run only when asked to."""
        every = ["-m", "slow or not slow", "--collect-only", "-q", "-p", "no:cacheprovider"]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *every, *sorted(f"tests/{file}" for file in files)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        names = cls()
        for line in ran.stdout.splitlines():
            if "::" in line:
                name = line.removeprefix("tests/")
                names.known |= {name, name.partition("[")[0]}
        return names


def rows(path: Path = DATA) -> list[Row]:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Row(group["name"], **row) for group in document["group"] for row in group.get("row", [])
    ]


def files(of: Iterable[Row]) -> set[str]:
    return {test.partition("::")[0] for row in of for test in row.tests}


def missing(of: Iterable[Row], names: Names) -> list[str]:
    """The tests that rows name and that do not exist."""
    return sorted({test for row in of for test in row.tests} - names.known)


def failed(of: Iterable[Row], shown: Mapping[str, Sequence[str]]) -> list[str]:
    """The tests of these rows, or the cases, that failed when they last ran."""
    return sorted(
        {
            each
            for row in of
            for test in row.tests
            for each, lines in _of(test, shown)
            if FAILED in lines
        }
    )


def figures(path: Path = FIGURES) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def with_cases(
    shown: Mapping[str, Sequence[str]], of: Iterable[Row], names: Names
) -> dict[str, list[str]]:
    """Figures, with the number of its cases for each test of several that has shown none itself."""
    found = {test: list(lines) for test, lines in shown.items()}
    shows = {test.partition("[")[0] for test, lines in found.items() if not _is_count(lines)}
    for test in sorted({test for row in of for test in row.tests} - shows):
        cases = sum(name.startswith(f"{test}[") for name in names.known)
        if cases > 1:
            found[test] = [f"{cases} cases"]
    return found


def _is_count(lines: Sequence[str]) -> bool:
    return len(lines) == 1 and re.fullmatch(r"\d+ cases", lines[0]) is not None


def render(of: Sequence[Row], shown: Mapping[str, Sequence[str]]) -> str:
    held = sum(row.held and not failed([row], shown) for row in of)
    parts = [_HEAD, f"{held} of {len(of)} rows are held as a whole.\n"]
    for group in dict.fromkeys(row.group for row in of):
        parts.append(f"## {group}\n\n| what | held by | figure |\n| --- | --- | --- |\n")
        parts[-1] += "".join(_line(row, shown) for row in of if row.group == group)
    return "\n".join(parts)


def _line(row: Row, shown: Mapping[str, Sequence[str]]) -> str:
    by = [f"`{test}`" for test in row.tests]
    if not row.held:
        by.append(f"{NOT_HELD}: {_escape(row.lacks)}" if row.lacks else NOT_HELD)
    if row.note:
        by.append(_escape(row.note))
    figure = [_escape(line) for test in row.tests for line in _shown(test, shown)]
    cells = (_escape(row.text), "<br>".join(by), "<br>".join(figure) or NO_FIGURE)
    return f"| {' | '.join(cells)} |\n"


def _shown(test: str, shown: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The figures of a test; of all its cases, where none is named. Tables are counted only."""
    for each, lines in _of(test, shown):
        if len(lines) <= _TABLE:
            yield "; ".join(re.sub(r"\s{2,}", " ", line.strip()) for line in lines)
        elif FAILED in lines:
            yield FAILED
        elif each != test:
            yield f"{len(lines) - 1} cases"  # one line is the table's head


def _of(test: str, shown: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    """What a test has shown, and each of its cases where none is named."""
    for each, lines in shown.items():
        if test in (each, each.partition("[")[0]):
            yield each, lines


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(arguments: Sequence[str]) -> int:
    data = rows()
    names = Names.collected(files(data))
    absent = missing(data, names)
    for test in absent:
        print(f"{DATA.name} names a test that does not exist: {test}", file=sys.stderr)
    for test in failed(data, figures()):
        print(f"failed when it last ran: {test}", file=sys.stderr)
    if arguments == ["--check"]:
        page = render(data, figures())
        stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page
        if stale:
            print(f"{PAGE} is not up to date: python -m tests.reliability", file=sys.stderr)
        return int(stale or bool(absent))
    if not absent:
        shown = with_cases(figures(), data, names)
        text = json.dumps(shown, indent=1, sort_keys=True, ensure_ascii=False)
        FIGURES.write_text(f"{text}\n", encoding="utf-8")
        PAGE.write_text(render(data, figures()), encoding="utf-8")
    return int(bool(absent))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
