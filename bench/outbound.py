"""Compare pfsmtp and Postfix as relays: a load is sent to them, and they send to an smtp-sink each.

As in inbound.py, both are started afresh for every run and take turns. A run lasts until the sink
has taken the last message, so a server that answers 250 early and relays late gains nothing by it.

A cell is `connections:size`; `:domains` has each message go to the next of 100 domains, each with a
mail host of its own, and `:reuse` has a connection carry many messages.

    bench/outbound.py                       every cell, five times: about a quarter of an hour
    bench/outbound.py --quick               two cells, three times
    bench/outbound.py --cells 10:1k 10:1k:domains --json figures.json
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from comparison import arguments, compare
from loads import Cell, RunFailedError, compiled_load, run_load, send_to_many, smtp_source
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


class ThroughRelay:
    """Implements `comparison.Workload`: mail for one domain, or for many."""

    def __init__(self, *, command: str, settings: str) -> None:
        self._command = command
        self._settings = settings
        self._to_many = Path()

    def server(self, name: str, cell: Cell, site: Site) -> Server:
        directory, certificate = site.fresh(name), site.certificate()
        if "domains" in cell.words:
            self._to_many = compiled_load(site.root)
        if name == Postfix.name:
            return PostfixRelay(directory, certificate, destinations=_destinations(cell))
        return PfsmtpRelay(directory, certificate, command=self._command, settings=self._settings)

    def send(self, server: Server, cell: Cell, messages: int) -> None:
        sender, count = f"load@{DOMAIN}", len(_destinations(cell))
        if "domains" in cell.words:
            send_to_many(self._to_many, server, cell, messages, sender=sender, domains=count)
        else:
            recipient = f"u@{_destinations(cell)[0]}"
            run_load(smtp_source(server, cell, messages, sender=sender, recipient=recipient))

    def delivered(self, server: Server) -> int:
        return _relay(server).sink.count()

    def delivered_at(self, server: Server) -> float:
        # Asked as soon as the last has been counted.
        return time.time()

    def check(self, server: Server, cell: Cell) -> None:
        """The sink counts messages, and keeps nothing to look at."""


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
