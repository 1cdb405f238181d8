"""What a message costs pfsmtp, however many there are already.

1. In the Maildir: `new/` is filled up to each size with links to messages that were delivered, then
   more are delivered and measured.
2. In the queue: messages for a domain that cannot be looked up wait there, up to each size; then
   messages for another domain are relayed and measured, and the server is stopped and started.

    bench/flat.py                           up to 100,000 of both
    bench/flat.py --maildir 1000 1000000 --queue
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import plots
from comparison import (
    add_server_options,
    await_delivery,
    describe,
    leave_site,
    open_site,
    versions,
)
from dialogue import Client, message
from inbound import IntoMaildirs
from loads import Cell, RunFailedError, run_load, smtp_source
from measure import HostTime, Machine, markdown_table
from outbound import ThroughRelay
from peers import DOMAIN, PeerError, Pfsmtp, Server, Site, running
from relays import LATER, PfsmtpRelay, domains

MAILDIR = (1_000, 10_000, 100_000)
QUEUE = (0, 1_000, 10_000, 100_000)
LOAD = Cell(10, 1024)
FILLING = Cell(20, 1024, ("reuse",))
LINKS = 50_000  # of one file at most; ext4 takes 65,000
WARM_UP = 200
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What messages cost beside so many."""

    place: str
    there: int
    messages: int
    rate: float
    cpu_per_1000: float
    steal: float
    start_ms: float | None = None  # from the start to the delivery of a new message


class Fill:
    """Fills a `new/` with links, which to a directory are files like any."""

    def __init__(self, new: Path) -> None:
        self._new = new
        self._count = 0

    def up_to(self, size: int) -> None:
        """Raises RunFailedError when there is nothing to link to."""
        originals = [entry.path for entry in os.scandir(self._new)]
        missing = size - len(originals)
        if not originals or missing > len(originals) * LINKS:
            raise RunFailedError("too few messages to make links to")
        for number in range(missing):
            self._count += 1
            original = originals[number % len(originals)]
            os.link(original, self._new / f"1.{self._count:07}.link")
        os.sync()


def send(server: Server, cell: Cell, messages: int, recipient: str) -> None:
    run_load(smtp_source(server, cell, messages, sender=f"load@{DOMAIN}", recipient=recipient))


def in_maildir(workload: IntoMaildirs, site: Site, sizes: Sequence[int], count: int) -> list[Cost]:
    """Deliver `count` messages to a Maildir of each size. Raises RunFailedError."""
    costs = []
    with running(workload.server(Pfsmtp.name, LOAD, site)) as server:
        workload.send(server, LOAD, WARM_UP)
        (new,) = (path for path in server.new_directories() if path.exists())
        fill = Fill(new)
        for size in sizes:
            fill.up_to(size)
            before = workload.delivered(server)
            host, cpu, began = HostTime.now(), server.cpu_seconds(), time.perf_counter()
            workload.send(server, LOAD, count)
            seconds = time.perf_counter() - began
            cpu = server.cpu_seconds() - cpu
            if workload.delivered(server) != before + count:
                raise RunFailedError(f"not all of {count} messages are in {new}")
            costs.append(_cost("Maildir", size, count, seconds=seconds, cpu=cpu, host=host))
    return costs


def in_queue(workload: ThroughRelay, site: Site, sizes: Sequence[int], count: int) -> list[Cost]:
    """Relay `count` messages while so many wait for another domain. Raises RunFailedError."""
    costs = []
    waiting = 0
    server = workload.server(Pfsmtp.name, LOAD, site)
    assert isinstance(server, PfsmtpRelay)
    with running(server):
        workload.send(server, LOAD, WARM_UP)
        await_delivery(workload, server, WARM_UP)
        for size in sizes:
            if size > waiting:
                send(server, FILLING, size - waiting, f"u@{LATER}")
                waiting = size
            goal = workload.delivered(server) + count
            host, cpu, began = HostTime.now(), server.cpu_seconds(), time.time()
            workload.send(server, LOAD, count)
            seconds = await_delivery(workload, server, goal) - began
            cpu = server.cpu_seconds() - cpu
            start = restart(workload, server)
            costs.append(
                _cost("queue", size, count, seconds=seconds, cpu=cpu, host=host, start_ms=start)
            )
    return costs


def restart(workload: ThroughRelay, server: PfsmtpRelay) -> float:
    """Stop and start; milliseconds until a message that is new then has been relayed."""
    goal = workload.delivered(server) + 1
    server.stop_program()
    began = time.perf_counter()
    server.launch()
    deadline = began + PATIENCE
    while True:
        try:
            client = Client(server.port)
            break
        except OSError:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.005)
    client.send(f"load@{DOMAIN}", f"u@{domains(1)[0]}", message(LOAD.size))
    client.quit()
    await_delivery(workload, server, goal)
    return (time.perf_counter() - began) * 1000


def _cost(
    place: str,
    there: int,
    count: int,
    *,
    seconds: float,
    cpu: float,
    host: HostTime,
    start_ms: float | None = None,
) -> Cost:
    cost = Cost(
        place=place,
        there=there,
        messages=count,
        rate=count / seconds,
        cpu_per_1000=cpu / count * 1000,
        steal=HostTime.now().steal_since(host),
        start_ms=start_ms,
    )
    print(
        f"  {place} {there}: {cost.rate:.0f} messages/s, {cost.cpu_per_1000:.2f} CPU s/1000",
        file=sys.stderr,
    )
    return cost


def table(costs: Sequence[Cost]) -> str:
    first = {
        place: next(c for c in costs if c.place == place) for place in {c.place for c in costs}
    }
    rows = [
        [
            cost.place,
            f"{cost.there:,}",
            f"{cost.rate:.0f}",
            f"{cost.cpu_per_1000:.2f}",
            f"{cost.cpu_per_1000 / first[cost.place].cpu_per_1000:.2f}",
            "-" if cost.start_ms is None else f"{cost.start_ms:.0f}",
            f"{cost.steal:.1%}",
        ]
        for cost in costs
    ]
    header = [
        "messages in",
        "there",
        "messages/s",
        "CPU s/1000",
        "to the first",
        "start, ms",
        "steal",
    ]
    return markdown_table(header, rows)


def plot(path: Path, costs: Sequence[Cost]) -> None:
    cpu: dict[str, list[tuple[float, float]]] = {}
    rate: dict[str, list[tuple[float, float]]] = {}
    for cost in costs:
        name = f"pfsmtp {cost.place}"
        cpu.setdefault(name, []).append((cost.there, cost.cpu_per_1000))
        rate.setdefault(name, []).append((cost.there, cost.rate))
    panels = [
        plots.Panel(up, "messages there before", series, x_scale="symlog")
        for up, series in (("messages a second", rate), ("CPU s for 1,000 messages", cpu))
    ]
    plots.lines(path, [panels], title="cost of a message")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maildir", nargs="*", type=int, metavar="N", default=MAILDIR)
    parser.add_argument("--queue", nargs="*", type=int, metavar="N", default=QUEUE)
    parser.add_argument("--messages", type=int, default=2000, help="a row (%(default)s)")
    add_server_options(parser)
    options = parser.parse_args()
    options.only = [Pfsmtp.name]
    return options


def main() -> int:
    options = arguments()
    servers = {"command": options.pfsmtp, "settings": options.settings}
    costs: list[Cost] = []
    try:
        plots.check(options.plot)
        known = versions(options)
        site = open_site(options.directory)
        machine = Machine.describe(site.root)
        if options.maildir:
            costs += in_maildir(
                IntoMaildirs(**servers), site, sorted(options.maildir), options.messages
            )
        if options.queue:
            costs += in_queue(
                ThroughRelay(**servers), site, sorted(options.queue), options.messages
            )
    except (PeerError, RunFailedError, plots.NoPlotsError) as error:
        print(f"flat.py: {error}", file=sys.stderr)
        return 1
    print(f"\n{describe(machine, known, options)}\n10 connections, 1 KiB, one message each\n")
    print(table(costs))
    if options.json:
        figures = {"machine": machine.as_dict(), "versions": known, "settings": options.settings}
        text = json.dumps({**figures, "costs": [asdict(cost) for cost in costs]}, indent=1)
        options.json.write_text(text + "\n")
    if options.plot:
        plot(options.plot, costs)
    leave_site(site, keep=options.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
