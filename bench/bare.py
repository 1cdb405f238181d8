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
import sys
from functools import partial
from pathlib import Path

from comparison import arguments, compare
from inbound import IntoMaildirs
from loads import Cell, compiled
from peers import Program, Server, Site
from runs import draw_bars, table

QUICK = ("10:1k", "50:1k:reuse")
ALL = (*QUICK, "10:10k")
WORDS = ("reuse",)
FEW = 16  # connections that pfsmtp has in its first worker (docs/decisions/0012)


class Bare(Program):
    """The system calls of a server."""

    name = "bare"

    def __init__(self, directory: Path, program: Path, *, processes: int) -> None:
        super().__init__(directory)
        self._program = program
        self._processes = processes

    def configure(self) -> None:
        self.make_maildir()

    def _command_line(self) -> list[str]:
        command = [str(self._program), "-p", str(self.port), "-w", str(self._processes)]
        return [*command, str(self.new_directories()[0].parent)]


class BesideTheCalls(IntoMaildirs):
    """The servers, and the one that is none, into Maildirs."""

    def server(self, name: str, cell: Cell, site: Site) -> Server:
        if name == Bare.name:
            processes = 1 if cell.connections < FEW else os.cpu_count() or 1
            return Bare(site.fresh(name), compiled("bare.c", site.root), processes=processes)
        return super().server(name, cell, site)


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=WORDS)
    workload = BesideTheCalls(command=options.pfsmtp, settings=options.settings)
    names = (*options.only, Bare.name)
    return compare(
        workload, options, names=names, make_table=partial(table, names=names), draw=draw_bars
    )


if __name__ == "__main__":
    sys.exit(main())
