"""docs/reliability.md against its data file, and the data file against the tests there are."""

from __future__ import annotations

import pytest

from tests import reliability
from tests.figures import FAILED
from tests.reliability import NO_FIGURE, NOT_HELD, Names, Row, render


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return reliability.rows()


def test_page_is_what_the_data_says(rows: list[Row]) -> None:
    page = reliability.PAGE.read_text(encoding="utf-8")
    assert page == render(rows, reliability.figures()), "python -m tests.reliability"


def test_every_test_that_it_names_exists(rows: list[Row]) -> None:
    assert reliability.missing(rows, Names.collected(reliability.files(rows))) == []


def test_every_promise_stands_in_it_once(rows: list[Row]) -> None:
    promises = [row.text.split(" ", 1)[0] for row in rows if row.group.startswith("Promises")]
    expected = [f"I{n}" for n in range(1, 12)] + [f"O{n}" for n in range(1, 9)]
    assert promises == expected + [f"P{n}" for n in range(1, 7)]


def test_no_row_stands_twice(rows: list[Row]) -> None:
    assert len({(row.group, row.text) for row in rows}) == len(rows)


def test_row_without_a_test_says_so_and_no_cell_is_empty() -> None:
    page = render([Row("Group", "a | <b>"), Row("Group", "c", ["t.py::test"])], {})
    assert f"| a \\| &lt;b> | {NOT_HELD} | {NO_FIGURE} |" in page
    assert f"| c | `t.py::test` | {NO_FIGURE} |" in page
    assert "1 of 2 rows are held as a whole." in page


def test_row_that_is_held_in_part_says_what_it_lacks() -> None:
    page = render([Row("Group", "a", ["t.py::test"], lacks="the rest")], {})
    assert f"| a | `t.py::test`<br>{NOT_HELD}: the rest | {NO_FIGURE} |" in page
    assert "0 of 1 rows are held as a whole." in page


def test_figures_stand_beside_the_test_that_showed_them() -> None:
    shown = {
        "t.py::test": ["12   sent", "0 lost"],
        "t.py::cases[a]": ["1"],
        "t.py::cases[b]": ["2"],
    }
    rows = [Row("Group", "a", ["t.py::test"]), Row("Group", "b", ["t.py::cases"])]
    page = render(rows, shown)
    assert "| a | `t.py::test` | 12 sent; 0 lost |" in page
    assert "| b | `t.py::cases` | 1<br>2 |" in page


def test_failure_is_seen_and_its_row_is_not_held() -> None:
    shown = {
        "t.py::cases[a]": [FAILED, "1 lost"],
        "t.py::cases[b]": ["0 lost"],
        "t.py::table[a]": [FAILED, *("a case" for _ in range(50))],
    }
    rows = [Row("Group", "a", ["t.py::cases"]), Row("Group", "b", ["t.py::table"])]
    page = render([*rows, Row("Group", "c", ["t.py::cases[b]"])], shown)
    assert f"| a | `t.py::cases` | {FAILED}; 1 lost<br>0 lost |" in page
    assert f"| b | `t.py::table` | {FAILED} |" in page
    assert "1 of 3 rows are held as a whole." in page
    assert reliability.failed(rows, shown) == ["t.py::cases[a]", "t.py::table[a]"]


def test_tables_are_counted() -> None:
    shown = {"t.py::cases[a]": ["what; outcome", *("a case" for _ in range(50))]}
    assert "| a | `t.py::cases` | 50 cases |" in render([Row("G", "a", ["t.py::cases"])], shown)
    page = render([Row("G", "a", ["t.py::cases[a]"])], shown)
    assert f"| a | `t.py::cases[a]` | {NO_FIGURE} |" in page


def test_cases_are_counted_where_a_test_shows_no_figure() -> None:
    names = Names({"t.py::a", "t.py::a[1]", "t.py::a[2]", "t.py::b", "t.py::b[1]", "t.py::b[2]"})
    rows = [Row("Group", "a", ["t.py::a", "t.py::b"])]
    shown = {"t.py::a": ["7 cases"], "t.py::b[1]": ["3 lost"]}
    expected = {"t.py::a": ["2 cases"], "t.py::b[1]": ["3 lost"]}
    assert reliability.with_cases(shown, rows, names) == expected


def test_test_that_does_not_exist_is_named() -> None:
    names = Names({"t.py::test", "t.py::test[case]"})
    rows = [Row("Group", "a", ["t.py::test[case]", "t.py::test[other]", "t.py::no"])]
    assert reliability.missing(rows, names) == ["t.py::no", "t.py::test[other]"]
