"""What more worker processes bring: pfsmtp with 1, 2 and 4, in turn under the same loads.

The load runs on the same cores: on a machine with two, more than one worker gains what the load
leaves, and four cost what it takes to take turns.

    bench/workers.py                        every cell, five times: about five minutes
    bench/workers.py --quick                one cell, three times
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from comparison import arguments, compare
from inbound import WORDS, IntoMaildirs
from loads import Cell
from measure import markdown_table
from peers import Pfsmtp
from runs import Run, draw_bars, figures, load_note, median_of, text_of

PROCESSES = (1, 2, 4)
NAMES = tuple(f"{count} worker{'s' if count > 1 else ''}" for count in PROCESSES)
QUICK = ("50:1k:reuse",)
ALL = ("10:1k", "50:1k", "50:1k:reuse", "10:100k", "10:1k:tls")


class WithWorkers(IntoMaildirs):
    """The server by its number of workers, which is the first word of its name here."""

    def settings_of(self, name: str) -> str:
        return f"[workers]\nprocesses = {name.partition(' ')[0]}\n\n{super().settings_of(name)}"


def table(runs: Sequence[Run], cells: Sequence[Cell]) -> str:
    """A row for each cell and number, and what became of the rate and the CPU of the first."""
    rows = []
    for cell in cells:
        of_cell = [run for run in runs if run.cell == str(cell)]
        for name in NAMES:
            row = [str(cell), name]
            for field, digits in (("delivered_rate", 0), ("cpu_per_1000", 2)):
                first = median_of(of_cell, NAMES[0], field)
                median = median_of(of_cell, name, field)
                row.append(text_of(figures(of_cell, name, field), digits))
                row.append(f"{median / first:.2f}" if median and first else "-")
            steal = max((run.steal for run in of_cell if run.server == name), default=0.0)
            rows.append([*row, f"{steal:.1%}"])
    header = ["cell", "pfsmtp with", "deliveries/s", "to the first"]
    header += ["CPU s/1000", "to the first", "steal"]
    return f"{markdown_table(header, rows)}\n\n{load_note(runs)}"


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=WORDS)
    options.only = [Pfsmtp.name]
    if "[workers]" in options.settings:
        print("workers.py: [workers] is what this varies", file=sys.stderr)
        return 2
    workload = WithWorkers(command=options.pfsmtp, settings=options.settings)
    return compare(workload, options, names=NAMES, make_table=table, draw=draw_bars)


if __name__ == "__main__":
    sys.exit(main())
