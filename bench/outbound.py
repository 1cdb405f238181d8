"""Compare pfsmtp and Postfix as relays: smtp-source sends to them, and they to an smtp-sink each.

As in inbound.py, both are started afresh for every run and take turns. A run lasts until the sink
has taken the last message, so a server that answers 250 early and relays late gains nothing by it.

A cell is `connections:size`; `:domains` spreads the mail over 100 domains, each with a mail host of
its own, and `:reuse` has a connection carry many messages.

    bench/outbound.py                       every cell, five times: about a quarter of an hour
    bench/outbound.py --quick               two cells, three times
    bench/outbound.py --cells 10:1k 10:1k:domains --json figures.json
"""

from __future__ import annotations

import sys
import time

from comparison import arguments, compare
from loads import Cell, RunFailedError, run_load, smtp_source
from peers import DOMAIN, Postfix, Server, Site
from relays import PfsmtpRelay, PostfixRelay, domains

CONNECTIONS = (1, 10, 50)
SIZES = ("1k", "100k")
DOMAINS = 100
WORDS = ("domains", "reuse")
QUICK = ("10:1k", "50:1k")
ALL = tuple(
    f"{connections}:{size}{spread}"
    for spread in ("", ":domains")
    for size in SIZES
    for connections in CONNECTIONS
)

AT_ONCE = 10
"""Messages that one smtp-source sends to one domain, before another goes on with the next."""


class ThroughRelay:
    """Implements `comparison.Workload`: mail for one domain, or for many."""

    def __init__(self, *, command: str, settings: str) -> None:
        self._command = command
        self._settings = settings

    def server(self, name: str, cell: Cell, site: Site) -> Server:
        directory, certificate = site.fresh(name), site.certificate()
        if name == Postfix.name:
            return PostfixRelay(directory, certificate, destinations=_destinations(cell))
        return PfsmtpRelay(directory, certificate, command=self._command, settings=self._settings)

    def send(self, server: Server, cell: Cell, messages: int) -> None:
        destinations = _destinations(cell)
        if len(destinations) == 1:
            run_load(_load(server, cell, messages, destinations[0]))
        else:
            _send_to_many(server, cell, messages, destinations)

    def delivered(self, server: Server) -> int:
        return _relay(server).sink.count()

    def delivered_at(self, server: Server) -> float:
        # Asked as soon as the last has been counted.
        return time.time()

    def check(self, server: Server, cell: Cell) -> None:
        """The sink counts messages, and keeps nothing to look at."""


def _send_to_many(server: Server, cell: Cell, messages: int, destinations: list[str]) -> None:
    """Have as many smtp-source as there are connections send to one domain after another."""
    alone = Cell(1, cell.size, cell.words)
    at_once = min(AT_ONCE, -(-messages // len(destinations)))
    lines = []
    for turn, start in enumerate(range(0, messages, at_once)):
        count = min(at_once, messages - start)
        lines.append(" ".join(_load(server, alone, count, destinations[turn % len(destinations)])))
    # Each line of its input is a command.
    shell = ["xargs", "-P", str(cell.connections), "-L", "1", "env"]
    run_load(shell, octets="\n".join(lines).encode() + b"\n")


def _load(server: Server, cell: Cell, messages: int, domain: str) -> list[str]:
    return smtp_source(server, cell, messages, sender=f"load@{DOMAIN}", recipient=f"u@{domain}")


def _destinations(cell: Cell) -> list[str]:
    return domains(DOMAINS if "domains" in cell.words else 1)


def _relay(server: Server) -> PfsmtpRelay | PostfixRelay:
    if not isinstance(server, PfsmtpRelay | PostfixRelay):
        raise RunFailedError(f"{server.name} is no relay")
    return server


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=WORDS)
    return compare(ThroughRelay(command=options.pfsmtp, settings=options.settings), options)


if __name__ == "__main__":
    sys.exit(main())
