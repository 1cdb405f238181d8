"""pfsmtp and Postfix in turn under the same load, cell by cell, and the table of what came of it.

What is sent, and when it counts as delivered, is the `Workload`'s; taking turns, warming up,
settling how many messages make a run, counting CPU, and saying what the figures depend on are
here. README.md beside this file says how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import plots
from measure import HostTime, Machine, markdown_table, median_and_range
from peers import PeerError, Pfsmtp, Postfix, Server, Site, default_command, running

UNITS = {"k": 1024, "m": 1024 * 1024}
NAMES = (Postfix.name, Pfsmtp.name)

RUN_SECONDS = 180.0
SETTLE_SECONDS = 0.3  # a queue manager has work left when the last message has arrived
MOST_MESSAGES = 20_000
MOST_MESSAGES_PER_CONNECTION = 9_000  # pfsmtp closes a connection after 10,000
DELETED_INODES_MATTER_SECONDS = 300.0
STEAL_WORTH_A_WARNING = 0.05


@dataclass(frozen=True, slots=True)
class Cell:
    """One load: written `connections:size`, and words that say how it differs."""

    connections: int
    size: int
    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, words: Collection[str]) -> Cell:
        connections, _, rest = text.partition(":")
        size, *given = rest.split(":")
        if size[-1:] not in UNITS or not set(given) <= set(words):
            known = "".join(f"[:{word}]" for word in words)
            raise ValueError(f"{text!r} is no cell: write 10:1k or 50:100k{known}")
        return cls(int(connections), int(size[:-1]) * UNITS[size[-1]], tuple(given))

    def __str__(self) -> str:
        size = f"{self.size >> 20}m" if self.size % UNITS["m"] == 0 else f"{self.size >> 10}k"
        return ":".join((str(self.connections), size, *self.words))

    @property
    def reuse(self) -> bool:
        """Whether a connection carries many messages."""
        return "reuse" in self.words

    def most_messages(self) -> int:
        if self.reuse:
            return min(MOST_MESSAGES, self.connections * MOST_MESSAGES_PER_CONNECTION)
        return MOST_MESSAGES


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


class Workload(Protocol):
    """What is sent to the servers, and where it arrives."""

    def server(self, name: str, cell: Cell, site: Site) -> Server:
        """A server for one run, not yet started."""
        ...

    def send(self, server: Server, cell: Cell, messages: int) -> None:
        """Send so many messages; returns when the server has taken all. Raises RunFailedError."""
        ...

    def delivered(self, server: Server) -> int:
        """How many messages have arrived since the server was started."""
        ...

    def delivered_at(self, server: Server) -> float:
        """When the last one arrived, in Unix seconds."""
        ...

    def check(self, server: Server, cell: Cell) -> None:
        """See that what arrived is what was sent, when all is over. Raises RunFailedError."""
        ...


def smtp_source(
    server: Server, cell: Cell, messages: int, *, sender: str, recipient: str
) -> list[str]:
    """The command that sends the load of one cell."""
    command = ["smtp-source", "-s", str(cell.connections), "-m", str(messages)]
    # -C: a full listen queue is tried again rather than ending the run.
    command += ["-l", str(cell.size), "-C", "20", "-t", recipient, "-f", sender]
    command += ["-d"] if cell.reuse else []
    return [*command, server.address]


def run_load(command: Sequence[str], *, octets: bytes = b"") -> None:
    """Run what sends a load, with these octets on its stdin. Raises RunFailedError."""
    try:
        done = subprocess.run(command, input=octets, capture_output=True, timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RunFailedError(f"{command[0]} ran past {RUN_SECONDS:.0f} s") from error
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace")
        raise RunFailedError(f"{command[0]}: {said.strip()[-200:]}")


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


def measure(workload: Workload, server: Server, cell: Cell, messages: int, *, repeat: int) -> Run:
    """Send `messages` to a running server and measure until the last one has arrived."""
    goal = workload.delivered(server) + messages
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

    def __init__(self, workload: Workload, options: argparse.Namespace, site: Site) -> None:
        self.options = options
        self.runs: list[Run] = []
        self.failures: list[str] = []
        self._workload = workload
        self._site = site
        self._messages: dict[tuple[Cell, str], int] = {}

    def compare(self, cell: Cell) -> None:
        """Run every server `--repeats` times, the first to go changing with each repeat."""
        names = list(self.options.only)
        for repeat in range(self.options.repeats):
            for name in names if repeat % 2 == 0 else reversed(names):
                self._run(cell, name, repeat=repeat)

    def _run(self, cell: Cell, name: str, *, repeat: int) -> None:
        with running(self._workload.server(name, cell, self._site)) as server:
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
        run = measure(self._workload, server, cell, warm_up, repeat=repeat)
        key = cell, server.name
        if key not in self._messages:
            # The number of messages is settled once, so that all repeats of it are alike.
            run = measure(self._workload, server, cell, warm_up * 2, repeat=repeat)
            self._messages[key] = self._enough(run, cell)
        return measure(self._workload, server, cell, self._messages[key], repeat=repeat)

    def _enough(self, run: Run, cell: Cell) -> int:
        if self.options.messages:
            return int(self.options.messages)
        fitting = int(run.delivered_rate * self.options.seconds)
        return min(max(fitting, 2 * cell.connections, 50), cell.most_messages())


def table(runs: Sequence[Run], cells: Sequence[Cell]) -> str:
    """One row a cell: both servers, and pfsmtp's ratio to Postfix."""
    rows = []
    for cell in cells:
        of_cell = [run for run in runs if run.cell == str(cell)]
        rate = {name: _figures(of_cell, name, "delivered_rate") for name in NAMES}
        cpu = {name: _figures(of_cell, name, "cpu_per_1000") for name in NAMES}
        rows.append(
            [
                str(cell),
                *(text_of(rate[name], 0) for name in NAMES),
                ratio_of(rate),
                *(text_of(cpu[name], 2) for name in NAMES),
                ratio_of(cpu),
                f"{max((run.steal for run in of_cell), default=0.0):.1%}",
            ]
        )
    header = ["cell", *(f"{name} messages/s" for name in NAMES), "ratio"]
    header += [*(f"{name} CPU s/1000" for name in NAMES), "ratio", "steal"]
    return markdown_table(header, rows)


def _figures(runs: Sequence[Run], name: str, field: str) -> list[float]:
    return [getattr(run, field) for run in runs if run.server == name]


def text_of(values: Sequence[float], digits: int) -> str:
    """The median, with the lowest and the highest; a dash where there is none."""
    if not values:
        return "-"
    middle, lowest, highest = median_and_range(values)
    return f"{middle:.{digits}f} ({lowest:.{digits}f}-{highest:.{digits}f})"


def ratio_of(values: dict[str, list[float]]) -> str:
    """pfsmtp's median in Postfix's."""
    if not all(values.values()):
        return "-"
    theirs, ours = (median_and_range(values[name])[0] for name in NAMES)
    return f"{ours / theirs:.2f}" if theirs else "-"


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


def versions(options: argparse.Namespace) -> dict[str, str]:
    """Ask the servers for their versions: the first thing that fails when one is missing."""
    known = {}
    if Postfix.name in options.only:
        known[Postfix.name] = Postfix.version()
    if Pfsmtp.name in options.only:
        known[Pfsmtp.name] = Pfsmtp.version(options.pfsmtp)
    return known


def open_site(directory: Path) -> Site:
    """Make the place of a benchmark; says what would spoil the figures before they are taken."""
    site = Site(directory)
    emptied = site.emptied_seconds_ago()
    if emptied is not None and emptied < DELETED_INODES_MATTER_SECONDS:
        print(
            f"files were deleted in {site.root.parent} {emptied:.0f} s ago: for"
            f" {DELETED_INODES_MATTER_SECONDS:.0f} s that slows every server down",
            file=sys.stderr,
        )
    return site


def leave_site(site: Site, *, keep: bool) -> None:
    """Delete what all runs left, unless it is to be kept."""
    if keep:
        print(f"everything is kept in {site.root}", file=sys.stderr)
    else:
        site.empty()


def describe(machine: Machine, known: dict[str, str], options: argparse.Namespace) -> str:
    """All that figures depend on: the machine, the versions, the settings."""
    servers = (f"{name} {version.removeprefix(f'{name} ')}" for name, version in known.items())
    settings = shlex.quote(options.settings) if options.settings else "as shipped"
    return f"{machine}\n{', '.join(servers)}; settings of pfsmtp: {settings}"


def report(comparison: Comparison, machine: Machine, known: dict[str, str]) -> None:
    """Print the table with all that it depends on."""
    options = comparison.options
    accounting = ", ".join(sorted({run.accounting for run in comparison.runs}))
    print(f"\n{describe(machine, known, options)}")
    print(f"medians of {options.repeats} alternating runs (lowest-highest); CPU by {accounting}\n")
    print(table(comparison.runs, options.cells))
    for failure in comparison.failures:
        print(f"failed: {failure}")
    worst = max((run.steal for run in comparison.runs), default=0.0)
    if worst > STEAL_WORTH_A_WARNING:
        print(f"up to {worst:.0%} of the machine was stolen: repeat it in a quieter hour")


def plot(path: Path, runs: Sequence[Run], *, title: str) -> None:
    """Rates and CPU against connections, a line for each server and kind of load."""
    rate: dict[str, list[tuple[float, float]]] = {}
    cpu: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        connections, _, load = run.cell.partition(":")
        name = f"{run.server} {load}"
        rate.setdefault(name, []).append((int(connections), run.delivered_rate))
        cpu.setdefault(name, []).append((int(connections), run.cpu_per_1000))
    panels = [
        (up, {name: plots.medians(points) for name, points in of.items()})
        for up, of in (("messages a second", rate), ("CPU s for 1,000 messages", cpu))
    ]
    plots.lines(path, panels, title=title, across="connections")


def compare(workload: Workload, options: argparse.Namespace) -> int:
    """Measure all cells, print and write what came of it; returns the exit status."""
    script = Path(sys.argv[0]).name
    try:
        plots.check(options.plot)
        known = versions(options)
        site = open_site(options.directory)
        machine = Machine.describe(site.root)
        comparison = Comparison(workload, options, site)
        for cell in options.cells:
            comparison.compare(cell)
    except (PeerError, plots.NoPlotsError) as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 1
    report(comparison, machine, known)
    if options.json:
        figures = {"machine": machine.as_dict(), "versions": known, "settings": options.settings}
        runs = [asdict(run) for run in comparison.runs]
        options.json.write_text(json.dumps({**figures, "runs": runs}, indent=1) + "\n")
    if options.plot:
        plot(options.plot, comparison.runs, title=f"{script.removesuffix('.py')}: medians")
    leave_site(site, keep=options.keep or bool(comparison.failures))
    return 1 if comparison.failures else 0
