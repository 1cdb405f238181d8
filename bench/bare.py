"""What of an inbound message's cost is the kernel's: servers beside one that only makes the calls.

The bare server is `bare.c` beside this file: the threads, the rounds and the system calls of
pfsmtp, in C, with nothing in between. It has no parser, no users, no limits and no errors. So its
figures are about where an inbound server that keeps pfsmtp's promise ends on this machine, in
whatever language; what pfsmtp takes more is Python, and all that a mail server has to look at.
Messages are smaller than 64 KiB.

    bench/bare.py                           every cell, five times: about four minutes
    bench/bare.py --quick                   two cells, three times
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from comparison import arguments, compare
from inbound import IntoMaildirs
from loads import Cell, compiled
from measure import markdown_table
from peers import STOP_SECONDS, PeerError, Postfix, Server, Site
from runs import NAMES, Run, draw_bars, figures, median_of, text_of

QUICK = ("10:1k", "50:1k:reuse")
ALL = (*QUICK, "10:10k")
WORDS = ("reuse",)
FEW = 16  # connections that pfsmtp has in its first worker (docs/decisions/0012)


class Bare(Server):
    """The system calls of a server."""

    name = "bare"

    def __init__(self, directory: Path, program: Path, *, processes: int) -> None:
        super().__init__(directory)
        self._program = program
        self._processes = processes
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        for name in ("tmp", "new"):
            (self._maildir() / name).mkdir(parents=True)

    def launch(self) -> None:
        command = [str(self._program), "-p", str(self.port), "-w", str(self._processes)]
        self._process = self._run([*command, str(self._maildir())])

    def _maildir(self) -> Path:
        return self.new_directories()[0].parent

    def _shut_down(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    def _master_pid(self) -> int:
        if self._process is None:
            raise PeerError("the bare server has not been started")
        return self._process.pid


class BesideTheCalls(IntoMaildirs):
    """The servers, and the one that is none, into Maildirs."""

    def server(self, name: str, cell: Cell, site: Site) -> Server:
        if name == Bare.name:
            processes = 1 if cell.connections < FEW else os.cpu_count() or 1
            return Bare(site.fresh(name), compiled("bare.c", site.root), processes=processes)
        return super().server(name, cell, site)


def table(runs: Sequence[Run], cells: Sequence[Cell]) -> str:
    """One row a cell: the servers, and of pfsmtp and the bare one the ratios to Postfix."""
    names = (*NAMES, Bare.name)
    header = ["cell"]
    for what in ("/s", " CPU s/1000"):
        for name in names:
            header += [f"{name}{what}"] + (["ratio"] if name != Postfix.name else [])
    rows = []
    for cell in cells:
        of_cell = [run for run in runs if run.cell == str(cell)]
        row = [str(cell)]
        for field, digits in (("delivered_rate", 0), ("cpu_per_1000", 2)):
            theirs = median_of(of_cell, Postfix.name, field)
            for name in names:
                row.append(text_of(figures(of_cell, name, field), digits))
                if name != Postfix.name:
                    middle = median_of(of_cell, name, field)
                    row.append(f"{middle / theirs:.2f}" if middle and theirs else "-")
        rows.append([*row, f"{max((run.steal for run in of_cell), default=0.0):.1%}"])
    return markdown_table([*header, "steal"], rows)


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=WORDS)
    workload = BesideTheCalls(command=options.pfsmtp, settings=options.settings)
    names = (*options.only, Bare.name)
    return compare(workload, options, names=names, make_table=table, draw=draw_bars)


if __name__ == "__main__":
    sys.exit(main())
