"""Cells, and what their tables and pictures say."""

from __future__ import annotations

from pathlib import Path

import pytest
from bare import Bare
from loads import Cell
from runs import NAMES, Run, plot, table

WORDS = ("reuse", "ten", "tls")


def run(cell: str, server: str, *, rate: float, cpu: float) -> Run:
    return Run(
        cell=cell,
        server=server,
        repeat=0,
        messages=100,
        deliveries=100,
        delivered_rate=rate,
        accepted_rate=rate,
        cpu_per_1000=cpu,
        load_cpu_per_1000=0.5,
        steal=0.0,
        accounting="cgroup",
    )


@pytest.mark.parametrize("text", ["1:1k", "10:100k:reuse", "50:5m", "10:1k:tls:reuse"])
def test_cell_is_written_as_it_was_read(text: str) -> None:
    assert str(Cell.parse(text, WORDS)) == text


def test_message_to_ten_users_is_ten_deliveries() -> None:
    assert Cell.parse("10:1k:ten", WORDS).recipients == 10
    assert Cell.parse("10:1k", WORDS).recipients == 1


def test_connection_carries_fewer_messages_than_the_server_allows() -> None:
    assert Cell(1, 1024, ("reuse",)).most_messages() < 10_000


def test_table_has_the_ratio_of_the_medians() -> None:
    runs = [
        *(run("10:1k", "postfix", rate=rate, cpu=2.0) for rate in (90, 100, 500)),
        *(run("10:1k", "pfsmtp", rate=rate, cpu=0.5) for rate in (300, 310, 10)),
    ]
    row = table(runs, [Cell(10, 1024)]).splitlines()[2]
    assert [text.strip() for text in row.strip("|").split("|")] == [
        "10:1k",
        "100 (90-500)",
        "300 (10-310)",
        "3.00",
        "2.00 (2.00-2.00)",
        "0.50 (0.50-0.50)",
        "0.25",
        "0.0%",
    ]


def test_table_says_how_busy_the_load_was_at_most() -> None:
    runs = [run("10:1k", "postfix", rate=100, cpu=1), run("50:1k", "pfsmtp", rate=1800, cpu=1)]
    assert "at most 0.90 cores busy (50:1k, pfsmtp)" in table(runs, [])


def test_where_one_did_not_run_there_is_no_ratio() -> None:
    row = table([run("10:1k", "pfsmtp", rate=1, cpu=1)], [Cell(10, 1024)]).splitlines()[2]
    assert row.count(" - ") == 4


def test_picture_is_made_of_any_cells(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="bench/requirements.txt")
    for cells in ([Cell(10, 1024)], [Cell(10, 1024), Cell(50, 1024), Cell(10, 102_400)]):
        runs = [run(str(cell), "pfsmtp", rate=100, cpu=1) for cell in cells]
        plot(tmp_path / "plot.svg", runs, cells, title="of a test")
        assert "</svg>" in (tmp_path / "plot.svg").read_text()


def test_table_beside_the_bare_server_has_its_ratios_to_postfix_too() -> None:
    runs = [
        run("10:1k", "postfix", rate=100, cpu=2.0),
        run("10:1k", "pfsmtp", rate=250, cpu=0.5),
        run("10:1k", "bare", rate=310, cpu=0.3),
    ]
    row = table(runs, [Cell(10, 1024)], names=(*NAMES, Bare.name)).splitlines()[2]
    cells = [text.strip() for text in row.strip("|").split("|")]
    assert [text.split(" ")[0] for text in cells] == [
        *("10:1k", "100", "250", "2.50", "310", "3.10"),
        *("2.00", "0.50", "0.25", "0.30", "0.15", "0.0%"),
    ]
