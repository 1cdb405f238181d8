"""What a message costs pfsmtp, however many there are already.

1. In the Maildir: `new/` is filled up to each size with links to messages that were delivered, then
   more are delivered and measured.
2. In the queue: messages for a domain that cannot be looked up wait there, up to each size; then
   messages for another domain are relayed and measured, and the server is stopped and started.

    bench/flat.py                           up to 1,000,000 and 100,000: some minutes
    bench/flat.py --maildir 1000 10000 --queue
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import plots
from comparison import Bench, add_server_options, await_delivery
from dialogue import Client, message
from inbound import IntoMaildirs
from loads import Cell, RunFailedError, run_load, smtp_source
from measure import HostTime, markdown_table
from outbound import ThroughRelay
from peers import DOMAIN, PeerError, Pfsmtp, Server, Site, running
from relays import LATER, PfsmtpRelay, domains
from runs import text_of

MAILDIR = (1_000, 10_000, 100_000, 1_000_000)
QUEUE = (0, 1_000, 10_000, 100_000)
LOAD = Cell(10, 1024)
FILLING = Cell(20, 1024, ("reuse",))
LINKS = 50_000  # of one file at most; ext4 takes 65,000
WARM_UP = 200
PATIENCE = 60.0
REST_CPU = 0.02  # CPU seconds in a second of a server that rests, or less
REST_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one load of messages cost beside so many."""

    place: str
    there: int
    messages: int
    rate: float
    cpu_per_1000: float
    steal: float
    start_ms: float | None = None  # thereafter, from a start to the delivery of a new message


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


def in_maildir(workload: IntoMaildirs, site: Site, options: argparse.Namespace) -> list[Cost]:
    """Deliver to a Maildir of each size. Raises RunFailedError."""
    costs = []
    with running(workload.server(Pfsmtp.name, LOAD, site)) as server:
        workload.send(server, LOAD, WARM_UP)
        (new,) = (path for path in server.new_directories() if path.exists())
        fill = Fill(new)
        for size in sorted(options.maildir):
            fill.up_to(size)
            before = workload.delivered(server)
            for _ in range(options.repeats):
                host, cpu, began = HostTime.now(), server.cpu_seconds(), time.perf_counter()
                workload.send(server, LOAD, options.messages)
                seconds = time.perf_counter() - began
                cpu = server.cpu_seconds() - cpu
                costs.append(
                    _cost("Maildir", size, options.messages, seconds=seconds, cpu=cpu, host=host)
                )
            if workload.delivered(server) != before + options.repeats * options.messages:
                raise RunFailedError(f"not all that was sent is in {new}")
    return costs


def in_queue(workload: ThroughRelay, site: Site, options: argparse.Namespace) -> list[Cost]:
    """Relay messages while so many wait for another domain. Raises RunFailedError."""
    costs = []
    waiting = 0
    server = workload.server(Pfsmtp.name, LOAD, site)
    assert isinstance(server, PfsmtpRelay)
    with running(server):
        workload.send(server, LOAD, WARM_UP)
        await_delivery(workload, server, WARM_UP)
        for size in sorted(options.queue):
            if size > waiting:
                send(server, FILLING, size - waiting, f"u@{LATER}")
                waiting = size
                await_rest(server)
            for _ in range(options.repeats):
                goal = workload.delivered(server) + options.messages
                host, cpu, began = HostTime.now(), server.cpu_seconds(), time.time()
                workload.send(server, LOAD, options.messages)
                seconds = await_delivery(workload, server, goal) - began
                cpu = server.cpu_seconds() - cpu
                costs.append(
                    _cost("queue", size, options.messages, seconds=seconds, cpu=cpu, host=host)
                )
            costs[-1] = replace(costs[-1], start_ms=restart(workload, server))
    return costs


def await_rest(server: Server) -> None:
    """Wait until what was sent has been tried, and the server has nothing to do but to wait."""
    deadline = time.monotonic() + REST_PATIENCE
    used = server.cpu_seconds()
    while time.monotonic() < deadline:
        time.sleep(1)
        before, used = used, server.cpu_seconds()
        if used - before < REST_CPU:
            return
    print("  what waits is still being tried: its cost is in the figures", file=sys.stderr)


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
) -> Cost:
    cost = Cost(
        place=place,
        there=there,
        messages=count,
        rate=count / seconds,
        cpu_per_1000=cpu / count * 1000,
        steal=HostTime.now().steal_since(host),
    )
    print(
        f"  {place} {there}: {cost.rate:.0f} messages/s, {cost.cpu_per_1000:.2f} CPU s/1000",
        file=sys.stderr,
    )
    return cost


def table(costs: Sequence[Cost]) -> str:
    """A row for each place and number of messages there, medians."""
    rows = []
    for place, there in dict.fromkeys((cost.place, cost.there) for cost in costs):
        of_place = [cost for cost in costs if cost.place == place]
        of_row = [cost for cost in of_place if cost.there == there]
        cpu = [cost.cpu_per_1000 for cost in of_row]
        first = [cost.cpu_per_1000 for cost in of_place if cost.there == of_place[0].there]
        rows.append(
            [
                place,
                f"{there:,}",
                text_of([cost.rate for cost in of_row], 0),
                text_of(cpu, 2),
                f"{statistics.median(cpu) / statistics.median(first):.2f}",
                text_of([cost.start_ms for cost in of_row if cost.start_ms is not None], 0),
                f"{max(cost.steal for cost in of_row):.1%}",
            ]
        )
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
        plots.Panel(
            up,
            "messages there before",
            {name: plots.medians(points) for name, points in of.items()},
            x_scale="symlog",
        )
        for up, of in (("messages a second", rate), ("CPU s for 1,000 messages", cpu))
    ]
    plots.lines(path, [panels], title="cost of a message")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maildir", nargs="*", type=int, metavar="N", default=MAILDIR)
    parser.add_argument("--queue", nargs="*", type=int, metavar="N", default=QUEUE)
    parser.add_argument("--messages", type=int, default=1000, help="a load (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="loads a row (%(default)s)")
    add_server_options(parser)
    options = parser.parse_args()
    options.only = [Pfsmtp.name]
    return options


def main() -> int:
    options = arguments()
    servers = {"command": options.pfsmtp, "settings": options.settings}
    costs: list[Cost] = []
    try:
        bench = Bench(options)
        if options.maildir:
            costs += in_maildir(IntoMaildirs(**servers), bench.site, options)
        if options.queue:
            costs += in_queue(ThroughRelay(**servers), bench.site, options)
    except (PeerError, RunFailedError, plots.NoPlotsError) as error:
        print(f"flat.py: {error}", file=sys.stderr)
        return 1
    print(f"\n{bench}")
    print(f"10 connections, 1 KiB, one message each; medians of {options.repeats}\n")
    print(table(costs))
    bench.write(costs=[asdict(cost) for cost in costs])
    if options.plot:
        plot(options.plot, costs)
    bench.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
