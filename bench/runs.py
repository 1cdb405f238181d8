"""What came of a comparison: the runs, their tables of medians, and pictures of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import plots
from loads import Cell
from measure import markdown_table, median_and_range
from peers import Pfsmtp, Postfix

NAMES = (Postfix.name, Pfsmtp.name)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of one server measured: rates a second, CPU in seconds, both of deliveries.

    A delivery is a message for one recipient, so that a message to ten users is ten.
    """

    cell: str
    server: str
    repeat: int
    messages: int
    deliveries: int
    delivered_rate: float
    accepted_rate: float
    cpu_per_1000: float
    load_cpu_per_1000: float
    steal: float
    accounting: str

    @property
    def load_cores(self) -> float:
        """How many cores the load kept busy, while the server took it."""
        return self.load_cpu_per_1000 / 1000 * self.accepted_rate


MakeTable = Callable[[Sequence[Run], Sequence[Cell]], str]


class Draw(Protocol):
    """Makes a picture of runs."""

    def __call__(
        self, path: Path, runs: Sequence[Run], cells: Sequence[Cell], *, title: str
    ) -> None: ...


def table(runs: Sequence[Run], cells: Sequence[Cell], *, names: Sequence[str] = NAMES) -> str:
    """One row a cell: the servers, and the ratio of each to Postfix."""
    header = ["cell"]
    for unit in ("deliveries/s", "CPU s/1000"):
        for name in names:
            header += [f"{name} {unit}"] if name == Postfix.name else [f"{name} {unit}", "ratio"]
    rows = []
    for cell in cells:
        of_cell = [run for run in runs if run.cell == str(cell)]
        row = [str(cell)]
        for field, digits in (("delivered_rate", 0), ("cpu_per_1000", 2)):
            theirs = median_of(of_cell, Postfix.name, field)
            for name in names:
                row.append(text_of(figures(of_cell, name, field), digits))
                if name != Postfix.name:
                    row.append(ratio_of(median_of(of_cell, name, field), theirs))
        rows.append([*row, f"{max((run.steal for run in of_cell), default=0.0):.1%}"])
    return f"{markdown_table([*header, 'steal'], rows)}\n\n{load_note(runs)}"


def figures(runs: Sequence[Run], name: str, field: str) -> list[float]:
    """What the runs of one server say."""
    return [getattr(run, field) for run in runs if run.server == name]


def median_of(runs: Sequence[Run], name: str, field: str) -> float | None:
    values = figures(runs, name, field)
    return statistics.median(values) if values else None


def text_of(values: Sequence[float], digits: int) -> str:
    """The median, with the lowest and the highest; a dash where there is none."""
    if not values:
        return "-"
    middle, lowest, highest = median_and_range(values)
    return f"{middle:.{digits}f} ({lowest:.{digits}f}-{highest:.{digits}f})"


def ratio_of(ours: float | None, theirs: float | None) -> str:
    """A median in another one; a dash where either is missing."""
    return f"{ours / theirs:.2f}" if ours is not None and theirs else "-"


def load_note(runs: Sequence[Run]) -> str:
    """How busy the load was: smtp-source has one thread, and with a core to itself is the limit."""
    if not runs:
        return "nothing was measured"
    busiest = max(runs, key=lambda run: run.load_cores)
    return (
        f"the load kept at most {busiest.load_cores:.2f} cores busy"
        f" ({busiest.cell}, {busiest.server})"
    )


def plot(path: Path, runs: Sequence[Run], cells: Sequence[Cell], *, title: str) -> None:
    """Rates and CPU against connections, and below against size; a line for each server and load.

    Against connections it is the smallest size of each load, against size the number of
    connections that most cells have. What is one point only is left out, unless all is.
    """
    usual = statistics.mode(cell.connections for cell in cells)
    smallest = {
        words: min(cell.size for cell in cells if cell.words == words)
        for words in {cell.words for cell in cells}
    }
    rows = [
        _panels(
            runs,
            {str(cell): cell.connections for cell in cells if cell.size == smallest[cell.words]},
            across="connections",
        ),
        _panels(
            runs,
            {str(cell): cell.size >> 10 for cell in cells if cell.connections == usual},
            across=f"KiB, {usual} connections",
            scale="log",
        ),
    ]
    lines = [[replace(panel, series=_lines_of(panel.series)) for panel in row] for row in rows]
    plots.lines(path, [row for row in lines if row[0].series] or rows[:1], title=title)


def _lines_of(series: plots.Series) -> plots.Series:
    return {name: points for name, points in series.items() if len(points) > 1}


def _panels(
    runs: Sequence[Run], places: Mapping[str, float], *, across: str, scale: str = "linear"
) -> list[plots.Panel]:
    """Rates and CPU of the cells that have a place on the x-axis."""
    rate: dict[str, list[tuple[float, float]]] = {}
    cpu: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        if run.cell in places:
            name = " ".join((run.server, *run.cell.split(":")[2:]))
            rate.setdefault(name, []).append((places[run.cell], run.delivered_rate))
            cpu.setdefault(name, []).append((places[run.cell], run.cpu_per_1000))
    return [
        plots.Panel(
            up,
            across,
            {name: plots.medians(points) for name, points in of.items()},
            x_scale=scale,
            y_scale=scale,
        )
        for up, of in (("deliveries a second", rate), ("CPU s for 1,000 deliveries", cpu))
    ]


def draw_bars(path: Path, runs: Sequence[Run], cells: Sequence[Cell], *, title: str) -> None:
    """Rates: a group of bars for each cell, in it one for each of those compared."""
    groups = [str(cell) for cell in cells]
    series = {
        name: [
            median_of([run for run in runs if run.cell == group], name, "delivered_rate") or 0.0
            for group in groups
        ]
        for name in dict.fromkeys(run.server for run in runs)
    }
    plots.bars(path, groups, series, title=title, up="deliveries a second")
