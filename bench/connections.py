"""What open connections cost: memory against their number, and what a server costs that rests.

1. Memory: so many connections are opened, say EHLO, and stay; then the memory of all processes of
   the server is added up (PSS), and one more client delivers a message and is timed.
2. Idle: CPU time of all processes in `--idle` seconds, with no connection open, and with as many as
   in the last row.
3. Start: from the start of the program to its first 250 for a message, inbound and outbound.

    bench/connections.py                    up to 10,000 connections, Postfix up to 2,000
    bench/connections.py --quick            up to 500
    bench/connections.py --open 0 100 1000 --json figures.json
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import plots
from comparison import Bench, add_server_options
from dialogue import Client, UnexpectedReplyError, message
from measure import markdown_table, memory_kib
from peers import DOMAIN, PeerError, Pfsmtp, Postfix, Server, Site, running
from relays import PfsmtpRelay, PostfixRelay
from runs import text_of

OPEN = (0, 500, 2000, 10_000)
QUICK = (0, 500)
MOST_OF_POSTFIX = 2000  # a process each: more take minutes to open, and no less a connection
SPARE = 100  # connections and descriptors beside those that are held
AT_ONCE = 20  # connections that are opened at a time
SETTLE_SECONDS = 2.0
STARTS = 5
PATIENCE = 10.0
MESSAGE = message(1024)


@dataclass(frozen=True, slots=True)
class Held:
    """One row: what so many open connections cost."""

    server: str
    connections: int
    opened_seconds: float
    processes: int
    memory_kib: float
    each_kib: float  # beyond what the server takes with none
    one_more_ms: float  # for another client's message


@dataclass(frozen=True, slots=True)
class Rest:
    """What a server costs that has nothing to do."""

    server: str
    connections: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Starts:
    """How soon a server is there."""

    server: str
    start_ms: list[float]


def make(name: str, site: Site, options: argparse.Namespace, *, connections: int) -> Server:
    """A server that takes so many connections, and some more."""
    directory, certificate = site.fresh(name), site.certificate()
    most = connections + SPARE
    if name == Postfix.name:
        return Postfix(directory, certificate, connections=most)
    # Each process may have to take all: the kernel does not share them out evenly.
    settings = f"[workers]\nconnections = {most}\n{options.settings}"
    return Pfsmtp(directory, certificate, command=options.pfsmtp, settings=settings)


def make_relay(name: str, site: Site, options: argparse.Namespace) -> Server:
    """A server that relays what it takes."""
    directory, certificate = site.fresh(f"{name}-relay"), site.certificate()
    if name == Postfix.name:
        return PostfixRelay(directory, certificate, destinations=[DOMAIN])
    return PfsmtpRelay(directory, certificate, command=options.pfsmtp, settings=options.settings)


@contextmanager
def held(server: Server, count: int) -> Iterator[None]:
    """Have so many connections open."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        clients = list(pool.map(lambda _: Client(server.port), range(count)))
    try:
        yield
    finally:
        for client in clients:
            client.close()


def deliver_one(server: Server) -> float:
    """Have one message taken over a connection of its own; milliseconds."""
    began = time.perf_counter()
    client = Client(server.port)
    client.send(f"load@{DOMAIN}", f"u@{DOMAIN}", MESSAGE)
    client.quit()
    return (time.perf_counter() - began) * 1000


def hold(server: Server, count: int, alone_kib: float | None) -> Held:
    """Open `count` connections, measure, and close them; `alone_kib` is what none took."""
    began = time.perf_counter()
    with held(server, count):
        opened = time.perf_counter() - began
        time.sleep(SETTLE_SECONDS)
        processes = server.processes()
        memory = memory_kib(processes)
        one_more = deliver_one(server)
    each = (memory - alone_kib) / count if count and alone_kib is not None else 0.0
    return Held(server.name, count, opened, len(processes), memory, each, one_more)


def measure_memory(server: Server, counts: Sequence[int]) -> Iterator[Held]:
    """Row by row, with the same server: what it took once it may keep."""
    for _ in range(SPARE):
        deliver_one(server)  # what is made at first use is not the connections' cost
    alone = None
    for count in counts:
        row = hold(server, count, alone)
        alone = row.memory_kib if alone is None else alone
        yield row


def measure_rest(server: Server, count: int, seconds: float) -> Rest:
    """CPU seconds of a server that holds connections and has nothing to do, in so many seconds."""
    with held(server, count):
        time.sleep(SETTLE_SECONDS)
        before, began = server.cpu_seconds(), time.perf_counter()
        time.sleep(seconds)
        cpu, took = server.cpu_seconds() - before, time.perf_counter() - began
    return Rest(server.name, count, took, cpu)


def measure_start(server: Server) -> float:
    """Start a server, and deliver to it as soon as it listens; milliseconds."""
    server.configure()
    began = time.perf_counter()
    server.launch()
    while True:
        try:
            deliver_one(server)
            return (time.perf_counter() - began) * 1000
        except (OSError, UnexpectedReplyError):
            if time.perf_counter() - began > PATIENCE:
                raise
            time.sleep(0.002)


class Measurement:
    """All of it, server by server."""

    def __init__(self, options: argparse.Namespace, site: Site) -> None:
        self.options = options
        self.rows: list[Held] = []
        self.rests: list[Rest] = []
        self.starts: list[Starts] = []
        self._site = site

    def measure(self, name: str) -> None:
        counts = [
            count for count in self.options.open if name != Postfix.name or count <= MOST_OF_POSTFIX
        ]
        with running(make(name, self._site, self.options, connections=max(counts))) as server:
            self.rests.append(measure_rest(server, 0, self.options.idle))
            for row in measure_memory(server, counts):
                self.rows.append(row)
                print(
                    f"  {name} {row.connections}: {row.memory_kib / 1024:.1f} MiB", file=sys.stderr
                )
            self.rests.append(measure_rest(server, counts[-1], self.options.idle))
        for role in ("inbound", "outbound"):
            self.starts.append(Starts(f"{name} {role}", self._measure_starts(name, role)))

    def _measure_starts(self, name: str, role: str) -> list[float]:
        starts = []
        for _ in range(self.options.starts):
            if role == "outbound":
                server = make_relay(name, self._site, self.options)
            else:
                server = make(name, self._site, self.options, connections=SPARE)
            try:
                starts.append(measure_start(server))
            finally:
                server.stop()
        return starts


def memory_table(rows: Sequence[Held]) -> str:
    header = [
        "server",
        "open",
        "opened in s",
        "processes",
        "PSS MiB",
        "PSS kB each",
        "one more, ms",
    ]
    return markdown_table(
        header,
        [
            [
                row.server,
                str(row.connections),
                f"{row.opened_seconds:.1f}",
                str(row.processes),
                f"{row.memory_kib / 1024:.1f}",
                f"{row.each_kib:.1f}" if row.connections else "-",
                f"{row.one_more_ms:.0f}",
            ]
            for row in rows
        ],
    )


def rest_table(rests: Sequence[Rest]) -> str:
    header = ["server", "open", "idle s", "CPU ms", "CPU %"]
    return markdown_table(
        header,
        [
            [
                rest.server,
                str(rest.connections),
                f"{rest.seconds:.0f}",
                f"{rest.cpu_seconds * 1000:.1f}",
                f"{rest.cpu_seconds / rest.seconds:.2%}",
            ]
            for rest in rests
        ],
    )


def start_table(starts: Sequence[Starts]) -> str:
    rows = [[start.server, text_of(start.start_ms, 0)] for start in starts]
    return markdown_table(["server", "start to first 250, ms"], rows)


def plot(path: Path, rows: Sequence[Held]) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        series.setdefault(row.server, []).append((row.connections, row.memory_kib / 1024))
    panel = plots.Panel("memory (PSS), MiB", "open connections", series)
    plots.lines(path, [[panel]], title="memory")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--open", nargs="+", type=int, metavar="N", help=f"connections {OPEN}")
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK} connections")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds (%(default)s)")
    parser.add_argument("--starts", type=int, default=STARTS, help="(%(default)s)")
    add_server_options(parser)
    options = parser.parse_args()
    options.open = sorted(options.open or (QUICK if options.quick else OPEN))
    return options


def main() -> int:
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < options.open[-1] + SPARE:
        print(f"connections.py: `ulimit -n` is {most}: raise it, or --open fewer", file=sys.stderr)
        return 1
    try:
        bench = Bench(options)
        measurement = Measurement(options, bench.site)
        for name in options.only:
            measurement.measure(name)
    except (PeerError, plots.NoPlotsError) as error:
        print(f"connections.py: {error}", file=sys.stderr)
        return 1
    print(f"\n{bench}\n")
    print(memory_table(measurement.rows))
    print(f"\n{rest_table(measurement.rests)}")
    print(f"\n{start_table(measurement.starts)}")
    bench.write(
        memory=[asdict(row) for row in measurement.rows],
        rest=[asdict(rest) for rest in measurement.rests],
        start=[asdict(start) for start in measurement.starts],
    )
    if options.plot:
        plot(options.plot, measurement.rows)
    bench.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
