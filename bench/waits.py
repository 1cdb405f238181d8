"""How long something takes under a load, for both servers in turn, as shares of all the times.

What is timed, and how it is sent, is the script's; the runs, the table of their medians and the
plot are here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import plots
from comparison import Bench
from loads import Cell
from measure import markdown_table
from peers import PeerError, Site
from runs import NAMES


@dataclass(frozen=True, slots=True)
class Waits:
    """What one run saw: the seconds that each took, in any order, and how long all did."""

    took: Sequence[float]
    elapsed: float
    steal: float


@dataclass(frozen=True, slots=True)
class Run:
    """One server under one load, in milliseconds."""

    cell: str
    server: str
    repeat: int
    messages: int
    rate: float  # messages a second
    shares: list[float]  # as many milliseconds or less were enough for each share
    steal: float

    @classmethod
    def of(
        cls, waits: Waits, shares: Sequence[float], *, cell: Cell, name: str, repeat: int
    ) -> Run:
        ordered = sorted(waits.took)
        return cls(
            cell=str(cell),
            server=name,
            repeat=repeat,
            messages=len(ordered),
            rate=len(ordered) / waits.elapsed,
            shares=[share_of(ordered, share) * 1000 for share in shares],
            steal=waits.steal,
        )


def share_of(ordered: Sequence[float], share: float) -> float:
    """What is enough for this share of the values."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a script compares: `measure` gives the waits of a server under the load of a cell."""

    script: str
    title: str  # of the plot
    shares: Sequence[float]
    drawn: Sequence[float]  # the first of `shares`, as many as the plot has
    measure: Callable[[str, Cell, Site], Waits]

    def run(self, options: argparse.Namespace) -> int:
        """Measure all cells, print the table, and return the exit status."""
        runs: list[Run] = []
        try:
            bench = Bench(options)
            for cell in options.cells:
                for repeat in range(options.repeats):
                    for name in options.only if repeat % 2 == 0 else reversed(options.only):
                        runs.append(self._run(name, cell, bench.site, repeat))
        except (PeerError, plots.NoPlotsError) as error:
            print(f"{self.script}: {error}", file=sys.stderr)
            return 1
        print(f"\n{bench}")
        print(
            f"medians of {options.repeats} alternating runs\n\n{self._table(runs, options.cells)}"
        )
        bench.write(runs=[asdict(run) for run in runs])
        if options.plot:
            self._plot(options.plot, runs)
        bench.leave()
        return 0

    def _run(self, name: str, cell: Cell, site: Site, repeat: int) -> Run:
        waits = self.measure(name, cell, site)
        run = Run.of(waits, self.shares, cell=cell, name=name, repeat=repeat)
        shares = " ".join(f"{value:.2f}" for value in run.shares)
        print(f"  {cell!s:12} {name:8} {run.rate:7.0f}/s  {shares} ms", file=sys.stderr)
        return run

    def _table(self, runs: Sequence[Run], cells: Sequence[Cell]) -> str:
        """A row for each cell and server, medians of the runs; and pfsmtp's in Postfix's."""
        shares = [f"p{share * 100:g} ms" for share in self.shares]
        rows = []
        for cell in cells:
            medians = {}
            for name in NAMES:
                of_server = _runs_of(runs, str(cell), name)
                if not of_server:
                    continue
                medians[name] = [_median(of_server, place) for place in range(len(self.shares))]
                rate = statistics.median(run.rate for run in of_server)
                values = [f"{value:.2f}" for value in medians[name]]
                steal = f"{max(run.steal for run in of_server):.1%}"
                rows.append([str(cell), name, f"{rate:.0f}", *values, steal])
            if len(medians) == len(NAMES):
                theirs, ours = (medians[name] for name in NAMES)
                ratios = [f"{our / their:.2f}" for our, their in zip(ours, theirs, strict=True)]
                rows.append(["", "ratio", "", *ratios, ""])
        return markdown_table(["cell", "server", "messages/s", *shares, "steal"], rows)

    def _plot(self, path: Path, runs: Sequence[Run]) -> None:
        """A group of bars for each cell and share that is drawn, a bar for each server."""
        cells = list(dict.fromkeys(run.cell for run in runs))
        groups = [(cell, place) for cell in cells for place in range(len(self.drawn))]
        series = {
            name: [_median(_runs_of(runs, cell, name), place) for cell, place in groups]
            for name in dict.fromkeys(run.server for run in runs)
        }
        names = [f"{cell}\np{self.drawn[place] * 100:g}" for cell, place in groups]
        plots.bars(path, names, series, title=self.title, up="ms")


def _runs_of(runs: Sequence[Run], cell: str, server: str) -> list[Run]:
    return [run for run in runs if run.cell == cell and run.server == server]


def _median(runs: Sequence[Run], place: int) -> float:
    return statistics.median(run.shares[place] for run in runs)
