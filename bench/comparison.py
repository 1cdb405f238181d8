"""Servers in turn under the same load, cell by cell, and the report of what came of it.

What is sent, and when it counts as delivered, is the `Workload`'s; taking turns, warming up,
settling how many messages make a run, counting CPU, and saying what the figures depend on are
here; tables and pictures are in runs.py. README.md beside this file says how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import plots
from loads import RUN_SECONDS, Cell, RunFailedError
from measure import HostTime, Machine
from peers import PeerError, Pfsmtp, Postfix, Server, Site, default_command, running
from runs import NAMES, Draw, MakeTable, Run, plot, table

SETTLE_SECONDS = 0.3  # a queue manager has work left when the last message has arrived
_LONG_ENOUGH = 0.25  # of the length of a run, for a trial that says how many messages make one
DELETED_INODES_MATTER_SECONDS = 300.0
STEAL_WORTH_A_WARNING = 0.05


class Workload(Protocol):
    """What is sent to the servers, and where it arrives."""

    def server(self, name: str, cell: Cell, site: Site) -> Server:
        """A server for one run, not yet started."""
        ...

    def send(self, server: Server, cell: Cell, messages: int) -> None:
        """Send so many messages; returns when the server has taken all. Raises RunFailedError."""
        ...

    def delivered(self, server: Server) -> int:
        """How many deliveries there have been since the server was started."""
        ...

    def delivered_at(self, server: Server) -> float:
        """When the last one arrived, in Unix seconds."""
        ...

    def check(self, server: Server, cell: Cell) -> None:
        """See that what arrived is what was sent, when all is over. Raises RunFailedError."""
        ...


def await_delivery(workload: Workload, server: Server, goal: int) -> float:
    """Wait until `goal` messages have arrived; returns when the last came, in Unix seconds."""
    deadline = time.monotonic() + RUN_SECONDS
    while (count := workload.delivered(server)) < goal:
        if time.monotonic() > deadline:
            raise RunFailedError(f"{count} of {goal} messages were delivered")
        time.sleep(0.02)
    if count > goal:
        raise RunFailedError(f"{count} messages arrived, {goal} were sent")
    return workload.delivered_at(server)


def measure(
    workload: Workload, server: Server, cell: Cell, *, name: str, messages: int, repeat: int
) -> Run:
    """Send `messages` to a running server and measure until the last one has arrived."""
    deliveries = messages * cell.recipients
    goal = workload.delivered(server) + deliveries
    host, cpu, started = HostTime.now(), server.cpu_seconds(), time.time()
    before = os.times()
    workload.send(server, cell, messages)
    accepted, after = time.time(), os.times()
    ended = await_delivery(workload, server, goal)
    time.sleep(SETTLE_SECONDS)
    cpu = server.cpu_seconds() - cpu
    steal = HostTime.now().steal_since(host)
    workload.check(server, cell)
    load_cpu = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return Run(
        cell=str(cell),
        server=name,
        repeat=repeat,
        messages=messages,
        deliveries=deliveries,
        delivered_rate=deliveries / (ended - started),
        accepted_rate=deliveries / (accepted - started),
        cpu_per_1000=cpu / deliveries * 1000,
        load_cpu_per_1000=load_cpu / deliveries * 1000,
        steal=steal,
        accounting=server.accounting,
    )


class Comparison:
    """What is compared, in turn, cell by cell; holds what has been measured."""

    def __init__(
        self, workload: Workload, options: argparse.Namespace, site: Site, *, names: Sequence[str]
    ) -> None:
        """`names` are those that the workload makes servers for."""
        self.options = options
        self.names = names
        self.runs: list[Run] = []
        self.failures: list[str] = []
        self._workload = workload
        self._site = site
        self._messages: dict[tuple[Cell, str], int] = {}

    def compare(self, cell: Cell) -> None:
        """Run each of them `--repeats` times, the first to go changing with each repeat."""
        for repeat in range(self.options.repeats):
            for name in self.names if repeat % 2 == 0 else reversed(self.names):
                self._run(cell, name, repeat=repeat)

    def _run(self, cell: Cell, name: str, *, repeat: int) -> None:
        with running(self._workload.server(name, cell, self._site)) as server:
            try:
                run = self._measure(server, cell, name=name, repeat=repeat)
            except RunFailedError as error:
                self.failures.append(f"{cell} {name}: {error}")
                print(f"  {self.failures[-1]}", file=sys.stderr)
                return
        self.runs.append(run)
        print(
            f"  {run.cell:16} {name:10} {run.delivered_rate:7.0f} a second"
            f" {run.cpu_per_1000:6.2f} CPU s/1000, {run.messages} messages, steal {run.steal:.1%}",
            file=sys.stderr,
        )

    def _measure(self, server: Server, cell: Cell, *, name: str, repeat: int) -> Run:
        def measured(messages: int) -> Run:
            return measure(
                self._workload, server, cell, name=name, messages=messages, repeat=repeat
            )

        warm_up = max(2 * cell.connections, 50)
        measured(warm_up)
        key = cell, name
        if key not in self._messages:
            # The number of messages is settled once, so that all repeats of it are alike.
            self._messages[key] = self._enough(measured, cell, first=warm_up * 2)
        return measured(self._messages[key])

    def _enough(self, measured: Callable[[int], Run], cell: Cell, *, first: int) -> int:
        """How many messages take about `--seconds`: by trials, until one has not been too short.

        In the first moments a server makes connections and files that it then goes on to use.
        """
        if self.options.messages:
            return int(self.options.messages)
        messages = first
        while True:
            run = measured(messages)
            fitting = int(run.delivered_rate * self.options.seconds / cell.recipients)
            enough = min(max(fitting, 2 * cell.connections, 50), cell.most_messages())
            lasted = run.deliveries / run.delivered_rate
            if enough <= messages or lasted >= self.options.seconds * _LONG_ENOUGH:
                return enough
            messages = enough


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """What every script takes that starts servers."""
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--pfsmtp", default=default_command(), help="command (%(default)s)")
    parser.add_argument(
        "--settings",
        default="",
        type=lambda text: text.replace("\\n", "\n"),
        metavar="TOML",
        help="more for pfsmtp: '[workers]\\nprocesses=1'",
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp/pfsmtp-bench"), help="(%(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="leave mail and logs of all runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture, as .svg or .png")


def arguments(
    description: str | None, *, cells: Sequence[str], quick: Sequence[str], words: Collection[str]
) -> argparse.Namespace:
    """The options of a comparison by cells; `words` are those that a cell may have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", metavar="CELL", help=f"default: all {len(cells)}")
    parser.add_argument(
        "--repeats", type=int, help="runs of each server a cell (5; 3 with --quick)"
    )
    parser.add_argument("--quick", action="store_true", help=f"only {' '.join(quick)}")
    parser.add_argument("--seconds", type=float, default=2.5, help="length of a run (%(default)s)")
    parser.add_argument("--messages", type=int, help="messages a run, in place of --seconds")
    add_server_options(parser)
    options = parser.parse_args()
    options.repeats = options.repeats or (3 if options.quick else 5)
    try:
        options.cells = [
            Cell.parse(text, words) for text in options.cells or (quick if options.quick else cells)
        ]
    except ValueError as error:
        parser.error(str(error))
    return options


class Bench:
    """What all that a script measures depends on: the place, the machine, versions, settings."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make the place; says what would spoil the figures before they are taken.

        Raises PeerError, plots.NoPlotsError: what is missing shows first.
        """
        plots.check(options.plot)
        self._options = options
        self._versions = versions(options)
        self.site = Site(options.directory)
        self._machine = Machine.describe(self.site.root)
        emptied = self.site.emptied_seconds_ago()
        if emptied is not None and emptied < DELETED_INODES_MATTER_SECONDS:
            print(
                f"files were deleted in {self.site.root.parent} {emptied:.0f} s ago: for"
                f" {DELETED_INODES_MATTER_SECONDS:.0f} s that slows every server down",
                file=sys.stderr,
            )

    def __str__(self) -> str:
        known = self._versions.items()
        servers = (f"{name} {version.removeprefix(f'{name} ')}" for name, version in known)
        settings = self._options.settings
        said = shlex.quote(settings) if settings else "as shipped"
        return f"{self._machine}\n{', '.join(servers)}; settings of pfsmtp: {said}"

    def write(self, **figures: object) -> None:
        """Write figures, with all that they depend on, if they are to be written."""
        if self._options.json:
            whole = {
                "machine": self._machine.as_dict(),
                "versions": self._versions,
                "settings": self._options.settings,
                **figures,
            }
            self._options.json.write_text(json.dumps(whole, indent=1) + "\n")

    def leave(self, *, failed: bool = False) -> None:
        """Delete what all runs left, unless it is to be kept, or something has failed."""
        if self._options.keep or failed:
            print(f"everything is kept in {self.site.root}", file=sys.stderr)
        else:
            self.site.empty()


def versions(options: argparse.Namespace) -> dict[str, str]:
    """Ask the servers for their versions: the first thing that fails when one is missing."""
    known = {}
    if Postfix.name in options.only:
        known[Postfix.name] = Postfix.version()
    if Pfsmtp.name in options.only:
        known[Pfsmtp.name] = Pfsmtp.version(options.pfsmtp)
    return known


def report(comparison: Comparison, bench: Bench, make_table: MakeTable) -> None:
    """Print the table with all that it depends on."""
    options = comparison.options
    accounting = ", ".join(sorted({run.accounting for run in comparison.runs}))
    print(f"\n{bench}")
    print(f"medians of {options.repeats} alternating runs (lowest-highest); CPU by {accounting}\n")
    print(make_table(comparison.runs, options.cells))
    for failure in comparison.failures:
        print(f"failed: {failure}")
    worst = max((run.steal for run in comparison.runs), default=0.0)
    if worst > STEAL_WORTH_A_WARNING:
        print(f"up to {worst:.0%} of the machine was stolen: repeat it in a quieter hour")


def compare(
    workload: Workload,
    options: argparse.Namespace,
    *,
    names: Sequence[str] = (),
    make_table: MakeTable = table,
    draw: Draw = plot,
) -> int:
    """Measure all cells, print and write what came of it; returns the exit status.

    `names` are what is compared, for those scripts that compare more than `--only` says.
    """
    script = Path(sys.argv[0]).name
    try:
        bench = Bench(options)
        comparison = Comparison(workload, options, bench.site, names=names or options.only)
        for cell in options.cells:
            comparison.compare(cell)
    except (PeerError, plots.NoPlotsError) as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 1
    report(comparison, bench, make_table)
    bench.write(runs=[asdict(run) for run in comparison.runs])
    if options.plot:
        title = f"{script.removesuffix('.py')}: medians"
        draw(options.plot, comparison.runs, options.cells, title=title)
    bench.leave(failed=bool(comparison.failures))
    return 1 if comparison.failures else 0
