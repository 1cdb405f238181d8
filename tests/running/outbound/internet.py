"""An internet on loopback: mail hosts at one port, each with an address of its own, and a zone.

internet = Internet()
domain = internet.domain("works", internet.address())
with internet.name_server(tmp_path) as names, Host(…), outbound(tmp_path, internet, names) …
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.nameserver import NameServer, ScriptedServer
from tests.running.program import Program, free_port, merge

TLD = "test"

IMPATIENT = {
    "connect": "2 s",
    "banner": "1.5 s",
    "hello": "1.5 s",
    "mail": "1.5 s",
    "recipient": "1.5 s",
    "data": "1.5 s",
    "block": "1.5 s",
    "final_dot": "4 s",
    "quit": "1 s",
}
"""How long to wait for hosts that will not answer."""


class Internet:
    """Domains below `test`; whatever has a zone, all of it, is put in before it is served."""

    def __init__(self) -> None:
        self.port = free_port()
        self.records: list[str] = []
        self._addresses = 0

    def address(self) -> str:
        """An address of loopback that nothing else here has."""
        self._addresses += 1
        third, fourth = divmod(self._addresses, 250)
        return f"127.1.{third}.{fourth + 1}"

    def record(self, text: str) -> None:
        """Add one record, its owner relative to `test`."""
        self.records.append(text)

    def domain(self, name: str, *addresses: str) -> str:
        """Add a domain with a mail host at each of these addresses, the first preferred."""
        for number, address in enumerate(addresses, 1):
            kind = "AAAA" if ":" in address else "A"
            self.record(f"{name} MX {number}0 mx{number}-{name}")
            self.record(f"mx{number}-{name} {kind} {address}")
        return f"{name}.{TLD}"

    def name_server(self, directory: Path) -> NameServer:
        directory.mkdir(parents=True, exist_ok=True)
        return NameServer(directory, {TLD: "\n".join(self.records) + "\n"})


def outbound(
    directory: Path, internet: Internet, names: NameServer | ScriptedServer, **changes: Any
) -> Program:
    """An outbound server in it; what fails is tried again in an hour, unless `changes` say so."""
    own = {
        "relay": {"port": internet.port, "nameserver": [names.address]},
        "schedule": {"retries": ["1 h"], "jitter": 0, "timeouts": IMPATIENT},
    }
    return Program.outbound(directory, **merge(own, changes))
