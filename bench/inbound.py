#!/usr/bin/env python3
"""Inbound: pfsmtp and Postfix, both into Maildirs, under Postfix's smtp-source.

Both servers are started afresh, in directories of their own, for every single run, and take turns:
what a noisy minute does to one it does to the other. A run sends a warm-up, then as many messages
as take about `--seconds`, and lasts until the last of them is in `new/`; the files are counted.
The figures are medians; README.md beside this file says how to read them, and where they lie.

    bench/inbound.py                        every cell, five times: about half an hour
    bench/inbound.py --quick                two cells, three times
    bench/inbound.py --cells 10:1k 50:1k:reuse --json figures.json
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measure import HostTime, Machine, markdown_table, median_and_range
from peers import DOMAIN, PeerError, Pfsmtp, Postfix, Server, Site, default_command, running

CONNECTIONS = (1, 10, 50, 200)
SIZES = ("1k", "10k", "100k")
QUICK = ("10:1k", "50:1k:reuse")
UNITS = {"k": 1024, "m": 1024 * 1024}

RUN_SECONDS = 180.0
SETTLE_SECONDS = 0.3  # a queue manager has work left when the last file is in place
STORED_SHARE = 0.95  # of what was sent, at least: CRLF is stored as LF
MOST_MESSAGES = 20_000
MOST_MESSAGES_PER_CONNECTION = 9_000  # pfsmtp closes a connection after 10,000
DELETED_INODES_MATTER_SECONDS = 300.0
STEAL_WORTH_A_WARNING = 0.05


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload: written `connections:size`, with `:reuse` for many messages a connection."""

    connections: int
    size: int
    reuse: bool

    @classmethod
    def parse(cls, text: str) -> Cell:
        connections, _, rest = text.partition(":")
        size, _, reuse = rest.partition(":")
        if reuse not in ("", "reuse") or size[-1:] not in UNITS:
            raise ValueError(f"{text!r} is no cell: write 10:1k or 50:100k:reuse")
        return cls(int(connections), int(size[:-1]) * UNITS[size[-1]], bool(reuse))

    def __str__(self) -> str:
        size = f"{self.size >> 20}m" if self.size % UNITS["m"] == 0 else f"{self.size >> 10}k"
        return f"{self.connections}:{size}{':reuse' if self.reuse else ''}"

    def most_messages(self) -> int:
        if self.reuse:
            return min(MOST_MESSAGES, self.connections * MOST_MESSAGES_PER_CONNECTION)
        return MOST_MESSAGES


ALL = tuple(
    f"{connections}:{size}{reuse}"
    for reuse in ("", ":reuse")
    for size in SIZES
    for connections in CONNECTIONS
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of one server measured; rates in messages a second, CPU in seconds."""

    cell: str
    server: str
    repeat: int
    messages: int
    delivered_rate: float
    accepted_rate: float
    cpu_per_1000: float
    load_cpu_per_1000: float
    steal: float
    accounting: str


class RunFailedError(Exception):
    """A run has no figure: the load was refused, or messages are missing."""


def send(server: Server, cell: Cell, messages: int) -> float:
    """Send `messages` with smtp-source; returns the CPU seconds it used itself."""
    command = ["smtp-source", "-s", str(cell.connections), "-m", str(messages)]
    # -C: a full listen queue is tried again rather than ending the run.
    command += ["-l", str(cell.size), "-C", "20", "-t", f"u@{DOMAIN}", "-f", f"load@{DOMAIN}"]
    command += ["-d"] if cell.reuse else []
    before = os.times()
    try:
        done = subprocess.run(
            [*command, server.address], capture_output=True, text=True, timeout=RUN_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailedError(f"smtp-source ran past {RUN_SECONDS:.0f} s") from error
    after = os.times()
    if done.returncode:
        raise RunFailedError(f"smtp-source: {(done.stderr + done.stdout).strip()[-200:]}")
    return (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )


def delivered(server: Server) -> int:
    """Count the files in every `new/`."""
    return sum(len(os.listdir(path)) for path in server.new_directories() if path.exists())


def check_sizes(server: Server, sent: int) -> None:
    """Look at every file: one that is short is not what was sent."""
    for directory in server.new_directories():
        if not directory.exists():
            continue
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.stat().st_size < sent * STORED_SHARE:
                    raise RunFailedError(f"{entry.path} is shorter than what was sent")


def await_delivery(server: Server, goal: int) -> float:
    """Wait until `goal` files are in `new/`; returns when the last came, in Unix seconds.

    The time is the directory's own, so that looking seldom costs no precision.
    """
    deadline = time.monotonic() + RUN_SECONDS
    while (count := delivered(server)) < goal:
        if time.monotonic() > deadline:
            raise RunFailedError(f"{count} of {goal} messages were delivered")
        time.sleep(0.05)
    if count > goal:
        raise RunFailedError(f"{count} files for {goal} messages")
    return max(path.stat().st_mtime for path in server.new_directories() if path.exists())


def measure(server: Server, cell: Cell, messages: int, *, repeat: int) -> Run:
    """Send `messages` to a running server and measure until the last one is in place."""
    goal = delivered(server) + messages
    host, cpu, started = HostTime.now(), server.cpu_seconds(), time.time()
    load_cpu = send(server, cell, messages)
    accepted = time.time()
    ended = await_delivery(server, goal)
    time.sleep(SETTLE_SECONDS)
    cpu = server.cpu_seconds() - cpu
    steal = HostTime.now().steal_since(host)
    check_sizes(server, cell.size)
    return Run(
        cell=str(cell),
        server=server.name,
        repeat=repeat,
        messages=messages,
        delivered_rate=messages / (ended - started),
        accepted_rate=messages / (accepted - started),
        cpu_per_1000=cpu / messages * 1000,
        load_cpu_per_1000=load_cpu / messages * 1000,
        steal=steal,
        accounting=server.accounting,
    )


class Comparison:
    """The servers in turn, cell by cell; holds what has been measured."""

    def __init__(self, options: argparse.Namespace, site: Site) -> None:
        self.options = options
        self.site = site
        self.runs: list[Run] = []
        self.failures: list[str] = []
        self._messages: dict[tuple[Cell, str], int] = {}

    def compare(self, cell: Cell) -> None:
        """Run every server `--repeats` times, the first to go changing with each repeat."""
        names = list(self.options.only)
        for repeat in range(self.options.repeats):
            for name in names if repeat % 2 == 0 else reversed(names):
                self._run(cell, name, repeat=repeat)

    def _run(self, cell: Cell, name: str, *, repeat: int) -> None:
        with running(self._server(name)) as server:
            try:
                run = self._measure(server, cell, repeat=repeat)
            except RunFailedError as error:
                self.failures.append(f"{cell} {name}: {error}")
                print(f"  {self.failures[-1]}", file=sys.stderr)
                return
        self.runs.append(run)
        print(
            f"  {run.cell:15} {name:8} {run.delivered_rate:7.0f} messages/s"
            f" {run.cpu_per_1000:6.2f} CPU s/1000, {run.messages} messages, steal {run.steal:.1%}",
            file=sys.stderr,
        )

    def _measure(self, server: Server, cell: Cell, *, repeat: int) -> Run:
        warm_up = max(2 * cell.connections, 50)
        run = measure(server, cell, warm_up, repeat=repeat)
        key = cell, server.name
        if key not in self._messages:
            # The number of messages is settled once, so that all repeats of it are alike.
            run = measure(server, cell, warm_up * 2, repeat=repeat)
            self._messages[key] = self._enough(run, cell)
        return measure(server, cell, self._messages[key], repeat=repeat)

    def _enough(self, run: Run, cell: Cell) -> int:
        if self.options.messages:
            return int(self.options.messages)
        fitting = int(run.delivered_rate * self.options.seconds)
        return min(max(fitting, 2 * cell.connections, 50), cell.most_messages())

    def _server(self, name: str) -> Server:
        directory, certificate = self.site.fresh(name), self.site.certificate()
        if name == Postfix.name:
            return Postfix(directory, certificate)
        return Pfsmtp(
            directory, certificate, command=self.options.pfsmtp, settings=self.options.settings
        )


def table(runs: Sequence[Run], cells: Sequence[Cell]) -> str:
    """One row a cell: both servers, and pfsmtp's ratio to Postfix."""
    rows = []
    for cell in cells:
        of_cell = [run for run in runs if run.cell == str(cell)]
        rate = {name: _figures(of_cell, name, "delivered_rate") for name in _NAMES}
        cpu = {name: _figures(of_cell, name, "cpu_per_1000") for name in _NAMES}
        rows.append(
            [
                str(cell),
                *(_text(rate[name], 0) for name in _NAMES),
                _ratio(rate),
                *(_text(cpu[name], 2) for name in _NAMES),
                _ratio(cpu),
                f"{max((run.steal for run in of_cell), default=0.0):.1%}",
            ]
        )
    header = ["cell", *(f"{name} messages/s" for name in _NAMES), "ratio"]
    header += [*(f"{name} CPU s/1000" for name in _NAMES), "ratio", "steal"]
    return markdown_table(header, rows)


_NAMES = (Postfix.name, Pfsmtp.name)


def _figures(runs: Sequence[Run], name: str, field: str) -> list[float]:
    return [getattr(run, field) for run in runs if run.server == name]


def _text(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    middle, lowest, highest = median_and_range(values)
    return f"{middle:.{digits}f} ({lowest:.{digits}f}-{highest:.{digits}f})"


def _ratio(values: dict[str, list[float]]) -> str:
    if not all(values.values()):
        return "-"
    theirs, ours = (median_and_range(values[name])[0] for name in _NAMES)
    return f"{ours / theirs:.2f}" if theirs else "-"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", metavar="CELL", help="default: all 24")
    parser.add_argument(
        "--repeats", type=int, help="runs of each server a cell (5; 3 with --quick)"
    )
    parser.add_argument("--quick", action="store_true", help=f"only {' '.join(QUICK)}")
    parser.add_argument("--seconds", type=float, default=2.5, help="length of a run (%(default)s)")
    parser.add_argument("--messages", type=int, help="messages a run, in place of --seconds")
    parser.add_argument("--only", nargs="+", choices=_NAMES, default=_NAMES)
    parser.add_argument("--pfsmtp", default=default_command(), help="command (%(default)s)")
    parser.add_argument(
        "--settings", default="", metavar="TOML", help="more for pfsmtp: '[workers]\\nprocesses=1'"
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp/pfsmtp-bench"), help="(%(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="leave mail and logs of all runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there")
    options = parser.parse_args()
    options.settings = options.settings.replace("\\n", "\n")
    options.repeats = options.repeats or (3 if options.quick else 5)
    try:
        options.cells = [
            Cell.parse(text) for text in options.cells or (QUICK if options.quick else ALL)
        ]
    except ValueError as error:
        parser.error(str(error))
    return options


def versions(options: argparse.Namespace) -> dict[str, str]:
    """Ask the servers for their versions: the first thing that fails when one is missing."""
    known = {}
    if Postfix.name in options.only:
        known[Postfix.name] = Postfix.version()
    if Pfsmtp.name in options.only:
        known[Pfsmtp.name] = Pfsmtp.version(options.pfsmtp)
    return known


def warn(site: Site) -> None:
    """Say what would spoil the figures before they are taken."""
    emptied = site.emptied_seconds_ago()
    if emptied is not None and emptied < DELETED_INODES_MATTER_SECONDS:
        print(
            f"files were deleted in {site.root.parent} {emptied:.0f} s ago: for"
            f" {DELETED_INODES_MATTER_SECONDS:.0f} s that slows every server down",
            file=sys.stderr,
        )


def report(comparison: Comparison, machine: Machine, known: dict[str, str]) -> None:
    """Print the table with all that it depends on."""
    options = comparison.options
    print(f"\n{machine}")
    print(
        ", ".join(f"{name} {version.removeprefix(f'{name} ')}" for name, version in known.items())
    )
    accounting = ", ".join(sorted({run.accounting for run in comparison.runs}))
    settings = shlex.quote(options.settings) if options.settings else "as shipped"
    print(
        f"medians of {options.repeats} alternating runs (lowest-highest); CPU by {accounting};"
        f" settings of pfsmtp: {settings}\n"
    )
    print(table(comparison.runs, options.cells))
    for failure in comparison.failures:
        print(f"failed: {failure}")
    worst = max((run.steal for run in comparison.runs), default=0.0)
    if worst > STEAL_WORTH_A_WARNING:
        print(f"up to {worst:.0%} of the machine was stolen: repeat it in a quieter hour")


def main() -> int:
    options = arguments()
    try:
        known = versions(options)
    except PeerError as error:
        print(f"inbound.py: {error}", file=sys.stderr)
        return 1
    site = Site(options.directory)
    warn(site)
    machine = Machine.describe(site.root)
    comparison = Comparison(options, site)
    try:
        for cell in options.cells:
            comparison.compare(cell)
    except PeerError as error:
        print(f"inbound.py: {error}", file=sys.stderr)
        return 1
    report(comparison, machine, known)
    if options.json:
        figures = {"machine": machine.as_dict(), "versions": known, "settings": options.settings}
        runs = [asdict(run) for run in comparison.runs]
        options.json.write_text(json.dumps({**figures, "runs": runs}, indent=1) + "\n")
    if options.keep or comparison.failures:
        print(f"everything is kept in {site.root}", file=sys.stderr)
    else:
        site.empty()
    return 1 if comparison.failures else 0


if __name__ == "__main__":
    sys.exit(main())
