"""How much of what the disk can do becomes mail: servers beside deliveries that no server makes.

The disk alone is `disk.c` beside this file: as many threads as there are connections, each of them
writing files into tmp/, syncing, renaming into new/ and syncing that. It takes turns with the
servers, on the same disk. Its CPU time is what the kernel takes for that, whoever asks.

    bench/disk.py                           every cell, five times: about five minutes
    bench/disk.py --only pfsmtp --quick     one cell, three times
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from comparison import arguments, compare
from inbound import WORDS, IntoMaildirs
from loads import Cell, compiled, run_load
from measure import markdown_table
from peers import PeerError, Server, Site
from runs import NAMES, Run, draw_bars, figures, median_of, text_of

QUICK = ("32:1k:reuse",)
ALL = ("32:1k", "32:1k:reuse", "32:10k:reuse", "32:100k:reuse")


class DiskAlone(Server):
    """Deliveries without a server: there is nothing to start."""

    name = "disk alone"

    def __init__(self, directory: Path, program: Path) -> None:
        super().__init__(directory)
        self._program = program

    @property
    def accounting(self) -> str:
        return "wait4"

    def cpu_seconds(self) -> float:
        """What all programs took that have ended: between two looks that is `disk`."""
        times = os.times()
        return times.children_user + times.children_system

    def deliver(self, cell: Cell, messages: int) -> None:
        """Raises RunFailedError."""
        (new,) = (path for path in self.new_directories() if path.exists())
        command = [str(self._program), "-s", str(cell.connections), "-m", str(messages)]
        run_load([*command, "-l", str(cell.size), str(new.parent)])

    def start(self) -> None:
        self.configure()

    def configure(self) -> None:
        self.make_maildir()

    def launch(self) -> None:
        """Each delivery is a program of its own."""

    def _shut_down(self) -> None: ...

    def _master_pid(self) -> int:
        raise PeerError("nothing is running")


class BesideTheDisk(IntoMaildirs):
    """The servers, and what has none, into Maildirs."""

    def server(self, name: str, cell: Cell, site: Site) -> Server:
        if name == DiskAlone.name:
            return DiskAlone(site.fresh("disk"), compiled("disk.c", site.root))
        return super().server(name, cell, site)

    def send(self, server: Server, cell: Cell, messages: int) -> None:
        if isinstance(server, DiskAlone):
            server.deliver(cell, messages)
        else:
            super().send(server, cell, messages)


def table(runs: Sequence[Run], cells: Sequence[Cell]) -> str:
    """One row a cell: the disk alone, and each server with its share of that."""
    names = (DiskAlone.name, *NAMES)
    rows = []
    for cell in cells:
        of_cell = [run for run in runs if run.cell == str(cell)]
        row = [str(cell), text_of(figures(of_cell, DiskAlone.name, "delivered_rate"), 0)]
        alone = median_of(of_cell, DiskAlone.name, "delivered_rate")
        for name in NAMES:
            rate = median_of(of_cell, name, "delivered_rate")
            row.append(text_of(figures(of_cell, name, "delivered_rate"), 0))
            row.append(f"{rate / alone:.0%}" if rate and alone else "-")
        row += [text_of(figures(of_cell, name, "cpu_per_1000"), 2) for name in names]
        rows.append([*row, f"{max((run.steal for run in of_cell), default=0.0):.1%}"])
    header = ["cell", f"{DiskAlone.name}/s"]
    for name in NAMES:
        header += [f"{name}/s", "share"]
    return markdown_table([*header, *(f"{name} CPU s/1000" for name in names), "steal"], rows)


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=WORDS)
    workload = BesideTheDisk(command=options.pfsmtp, settings=options.settings)
    names = (DiskAlone.name, *options.only)
    return compare(workload, options, names=names, make_table=table, draw=draw_bars)


if __name__ == "__main__":
    sys.exit(main())
