"""Compare how long a message takes: from MAIL, or from the connection, to the 250 behind it.

Each connection is a process, so that clients do not wait for one another; it sends one message
after the other for `--seconds`, as fast as the server takes them. The servers take turns, as in
inbound.py. Waiting for the other cores' clients is in the figures of both.

A cell is `connections:size`; without `:reuse` each message has a connection of its own, which
counts from connect() to the reply to QUIT.

    bench/latency.py                        all cells, three times: some minutes
    bench/latency.py --quick                one cell
"""

from __future__ import annotations

import json
import os
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import plots
from comparison import (
    NAMES,
    Cell,
    arguments,
    describe,
    leave_site,
    open_site,
    versions,
)
from dialogue import Client, message
from inbound import IntoMaildirs
from measure import HostTime, Machine, markdown_table
from peers import DOMAIN, PeerError, Server, Site, running

QUICK = ("10:1k",)
ALL = tuple(f"{connections}:1k{reuse}" for reuse in ("", ":reuse") for connections in (1, 10, 50))
SHARES = (0.5, 0.9, 0.99, 0.999)
WARM_UP = 100  # messages


@dataclass(frozen=True, slots=True)
class Run:
    """One server under one load: how long messages took, in milliseconds."""

    cell: str
    server: str
    repeat: int
    messages: int
    rate: float  # messages a second
    shares: list[float]  # as many milliseconds or less were enough for each of `SHARES`
    steal: float


def send_for(port: int, cell: Cell, seconds: float) -> array[float]:
    """Send one message after the other; returns the seconds that each took."""
    took = array("d")
    octets = message(cell.size)
    client = Client(port) if cell.reuse else None
    ends = time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends:
        one = client or Client(port)
        one.send(f"load@{DOMAIN}", f"u@{DOMAIN}", octets)
        if client is None:
            one.quit()
        took.append(time.perf_counter() - began)
    return took


def send_from_many(port: int, cell: Cell, seconds: float) -> array[float]:
    """Have a process for each connection do that; returns what all of them saw."""
    readers = []
    for _ in range(cell.connections):
        reader, writer = os.pipe()
        if os.fork() == 0:
            status = 1
            try:
                with open(writer, "wb") as pipe:
                    pipe.write(send_for(port, cell, seconds).tobytes())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        readers.append(reader)
    took = array("d")
    for reader in readers:
        with open(reader, "rb") as pipe:
            took.frombytes(pipe.read())
    failed = sum(os.wait()[1] != 0 for _ in readers)
    if failed:
        raise PeerError(f"{failed} of {cell.connections} clients failed")
    return took


def measure(server: Server, cell: Cell, seconds: float, *, repeat: int) -> Run:
    warm_up = Client(server.port)
    for _ in range(WARM_UP):
        warm_up.send(f"load@{DOMAIN}", f"u@{DOMAIN}", message(cell.size))
    warm_up.quit()
    host, began = HostTime.now(), time.perf_counter()
    took = send_from_many(server.port, cell, seconds)
    elapsed = time.perf_counter() - began
    return Run(
        cell=str(cell),
        server=server.name,
        repeat=repeat,
        messages=len(took),
        rate=len(took) / elapsed,
        shares=[share_of(sorted(took), share) * 1000 for share in SHARES],
        steal=HostTime.now().steal_since(host),
    )


def share_of(ordered: Sequence[float], share: float) -> float:
    """What is enough for this share of the values."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def median_of(runs: Sequence[Run], place: int) -> float:
    return share_of(sorted(run.shares[place] for run in runs), 0.5)


def table(runs: Sequence[Run], cells: Sequence[Cell]) -> str:
    """A row for each cell and server: medians of the runs."""
    header = [
        "cell",
        "server",
        "messages/s",
        *(f"p{share * 100:g} ms" for share in SHARES),
        "steal",
    ]
    rows = []
    for cell in cells:
        medians = {}
        for name in NAMES:
            of_server = [run for run in runs if run.cell == str(cell) and run.server == name]
            if not of_server:
                continue
            medians[name] = [median_of(of_server, place) for place in range(len(SHARES))]
            rate = share_of(sorted(run.rate for run in of_server), 0.5)
            rows.append(
                [
                    str(cell),
                    name,
                    f"{rate:.0f}",
                    *(f"{value:.2f}" for value in medians[name]),
                    f"{max(run.steal for run in of_server):.1%}",
                ]
            )
        if len(medians) == len(NAMES):
            theirs, ours = (medians[name] for name in NAMES)
            ratios = [f"{our / their:.2f}" for our, their in zip(ours, theirs, strict=True)]
            rows.append(["", "ratio", "", *ratios, ""])
    return markdown_table(header, rows)


def plot(path: Path, runs: Sequence[Run]) -> None:
    """A group of bars for each cell and share, a bar for each server."""
    cells = list(dict.fromkeys(run.cell for run in runs))
    groups = [(cell, place) for cell in cells for place in range(len(SHARES))]
    series = {
        name: [
            median_of([run for run in runs if run.cell == cell and run.server == name], place)
            for cell, place in groups
        ]
        for name in dict.fromkeys(run.server for run in runs)
    }
    names = [f"{cell}\np{SHARES[place] * 100:g}" for cell, place in groups]
    plots.bars(path, names, series, title="time of a message", up="ms")


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=("reuse",))
    workload = IntoMaildirs(command=options.pfsmtp, settings=options.settings)
    runs: list[Run] = []

    def run(name: str, cell: Cell, site: Site, repeat: int) -> None:
        with running(workload.server(name, cell, site)) as server:
            runs.append(measure(server, cell, options.seconds, repeat=repeat))
        shares = " ".join(f"{value:.2f}" for value in runs[-1].shares)
        print(f"  {cell!s:12} {name:8} {runs[-1].rate:7.0f}/s  {shares} ms", file=sys.stderr)

    try:
        plots.check(options.plot)
        known = versions(options)
        site = open_site(options.directory)
        machine = Machine.describe(site.root)
        for cell in options.cells:
            for repeat in range(options.repeats):
                for name in options.only if repeat % 2 == 0 else reversed(options.only):
                    run(name, cell, site, repeat)
    except (PeerError, plots.NoPlotsError) as error:
        print(f"latency.py: {error}", file=sys.stderr)
        return 1
    print(f"\n{describe(machine, known, options)}")
    print(f"medians of {options.repeats} alternating runs\n\n{table(runs, options.cells)}")
    if options.json:
        figures = {"machine": machine.as_dict(), "versions": known, "settings": options.settings}
        text = json.dumps({**figures, "runs": [asdict(run) for run in runs]}, indent=1)
        options.json.write_text(text + "\n")
    if options.plot:
        plot(options.plot, runs)
    leave_site(site, keep=options.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
