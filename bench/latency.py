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

import os
import sys
import time
from array import array

from comparison import arguments
from dialogue import Client, message
from inbound import IntoMaildirs
from loads import Cell
from measure import HostTime
from peers import DOMAIN, PeerError, Server, Site, running
from waits import Comparison, Waits

QUICK = ("10:1k",)
ALL = tuple(f"{connections}:1k{reuse}" for reuse in ("", ":reuse") for connections in (1, 10, 50))
SHARES = (0.5, 0.9, 0.99, 0.999)
WARM_UP = 100  # messages


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


def measure(server: Server, cell: Cell, seconds: float) -> Waits:
    warm_up = Client(server.port)
    for _ in range(WARM_UP):
        warm_up.send(f"load@{DOMAIN}", f"u@{DOMAIN}", message(cell.size))
    warm_up.quit()
    host, began = HostTime.now(), time.perf_counter()
    took = send_from_many(server.port, cell, seconds)
    return Waits(took, time.perf_counter() - began, HostTime.now().steal_since(host))


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=("reuse",))
    workload = IntoMaildirs(command=options.pfsmtp, settings=options.settings)

    def run(name: str, cell: Cell, site: Site) -> Waits:
        with running(workload.server(name, cell, site)) as server:
            return measure(server, cell, options.seconds)

    return Comparison("latency.py", "time of a message", SHARES, SHARES, run).run(options)


if __name__ == "__main__":
    sys.exit(main())
