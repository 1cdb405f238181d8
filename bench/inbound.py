"""Compare pfsmtp and Postfix, both into Maildirs, under Postfix's smtp-source.

Both servers are started afresh, in directories of their own, for every single run, and take turns:
what a noisy minute does to one it does to the other. A run sends a warm-up, then as many messages
as take about `--seconds`, and lasts until the last of them is in `new/`; the files are counted.
The figures are medians; README.md beside this file says how to read them, and where they lie.

A cell is `connections:size`. With `:reuse` a connection carries many messages rather than one;
`:ten` sends each message to ten users, and counts deliveries; `:tls` goes over STARTTLS, with a
load of our own (`load.c`), and with `:resume` connections after the first resume their session.

    bench/inbound.py                        every cell, five times: about half an hour
    bench/inbound.py --quick                two cells, three times
    bench/inbound.py --cells 10:1k 50:1k:reuse --json figures.json
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from comparison import arguments, compare
from loads import Cell, RunFailedError, compiled_load, run_load, send_over_tls, smtp_source
from peers import DOMAIN, Pfsmtp, Postfix, Server, Site

CONNECTIONS = (1, 10, 50, 200)
SIZES = ("1k", "10k", "100k")
QUICK = ("10:1k", "50:1k:reuse")
WORDS = ("reuse", "ten", "tls", "resume")
OTHERS = ("10:5m", "10:1k:ten", "10:1k:tls", "10:1k:tls:resume", "10:1k:tls:reuse")
ALL = (
    *(
        f"{connections}:{size}{reuse}"
        for reuse in ("", ":reuse")
        for size in SIZES
        for connections in CONNECTIONS
    ),
    *OTHERS,
)

STORED_SHARE = 0.95  # of what was sent, at least: CRLF is stored as LF


class IntoMaildirs:
    """Implements `comparison.Workload`: mail for one user, or for ten at once."""

    def __init__(self, *, command: str, settings: str) -> None:
        self._command = command
        self._settings = settings
        self._over_tls = Path()

    def server(self, name: str, cell: Cell, site: Site) -> Server:
        directory, certificate = site.fresh(name), site.certificate()
        if "tls" in cell.words:
            self._over_tls = compiled_load(site.root)
        if name == Postfix.name:
            return Postfix(directory, certificate)
        settings = self.settings_of(name)
        return Pfsmtp(directory, certificate, command=self._command, settings=settings)

    def settings_of(self, name: str) -> str:
        """What is set for the server of this name, as TOML."""
        return self._settings

    def send(self, server: Server, cell: Cell, messages: int) -> None:
        sender, recipient = f"load@{DOMAIN}", f"u@{DOMAIN}"
        if "tls" in cell.words:
            send_over_tls(
                self._over_tls, server, cell, messages, sender=sender, recipient=recipient
            )
        else:
            run_load(smtp_source(server, cell, messages, sender=sender, recipient=recipient))

    def delivered(self, server: Server) -> int:
        """Count the files in every `new/`."""
        return sum(len(os.listdir(path)) for path in server.new_directories() if path.exists())

    def delivered_at(self, server: Server) -> float:
        """The time is the directory's own, so that looking seldom costs no precision."""
        return max(path.stat().st_mtime for path in server.new_directories() if path.exists())

    def check(self, server: Server, cell: Cell) -> None:
        """Look at every file: one that is short is not what was sent."""
        for directory in server.new_directories():
            if not directory.exists():
                continue
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.stat().st_size < cell.size * STORED_SHARE:
                        raise RunFailedError(f"{entry.path} is shorter than what was sent")


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=WORDS)
    return compare(IntoMaildirs(command=options.pfsmtp, settings=options.settings), options)


if __name__ == "__main__":
    sys.exit(main())
