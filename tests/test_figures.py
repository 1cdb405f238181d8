"""What `--figures` keeps of a run of tests."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.figures import FAILED, Figure, keep, merged

KNOWN = {"t.py::a": ["1 sent"], "t.py::b": [FAILED]}


def test_what_ran_replaces_what_was_known_and_the_rest_is_kept() -> None:
    figures = [Figure("tests/t.py::a", "Title", ["2 sent"]), Figure("t.py::c", "Title", ["3 sent"])]
    kept = merged(KNOWN, figures, failed=set(), passed={"tests/t.py::a", "t.py::c"})
    assert kept == {"t.py::a": ["2 sent"], "t.py::b": [FAILED], "t.py::c": ["3 sent"]}


def test_test_that_failed_says_so_with_and_without_figures() -> None:
    figures = [Figure("tests/t.py::a", "Title", ["2 sent"])]
    kept = merged({}, figures, failed={"tests/t.py::a", "tests/t.py::b"}, passed=set())
    assert kept == {"t.py::a": [FAILED, "2 sent"], "t.py::b": [FAILED]}


def test_test_that_passes_again_has_not_failed_any_more() -> None:
    kept = merged(KNOWN, [], failed=set(), passed={"tests/t.py::a", "tests/t.py::b"})
    assert kept == {"t.py::a": ["1 sent"]}


def test_several_keep_theirs_in_one_file_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"

    def keep_one(number: int) -> None:
        figure = Figure(f"t.py::test_{number}", "Title", [str(number)])
        keep(path, [figure], failed=set(), passed={figure.test})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep_one, range(200)))
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept == {f"t.py::test_{number}": [str(number)] for number in range(200)}
