"""What `--figures` keeps of a run of tests."""

from __future__ import annotations

from tests.figures import FAILED, Figure, merged

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
