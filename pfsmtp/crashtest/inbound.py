"""Inbound: clients send to the server, and its Maildirs are looked at.

`InboundServer` is also what an outbound server relays to, where that was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from random import Random, SystemRandom

from pfsmtp.config import Config, Inbound
from pfsmtp.crashtest import journal, settings
from pfsmtp.crashtest.account import Account, of_inbound
from pfsmtp.crashtest.client import Server
from pfsmtp.crashtest.ledger import Ledger
from pfsmtp.crashtest.maildirs import REPORTS, Maildirs
from pfsmtp.crashtest.program import Program, Subject
from pfsmtp.crashtest.remote import sender
from pfsmtp.crashtest.schedule import Target
from pfsmtp.crashtest.site import LOOPBACK, free_port
from pfsmtp.crashtest.writing import as_toml
from pfsmtp.tls import client_context

_USERS = 16
_MOST_UNREAD = 5000  # copies
_HEADER = 2048  # octets of a message beside its body, and more


class InboundServer:
    """The inbound server of a configuration, in the directory `site`."""

    def __init__(
        self, config: Inbound, site: Path, *, addresses: Sequence[str], run: str, space: int
    ) -> None:
        """Write its files. The mail may take `space` octets. Raises CannotRun, OSError."""
        ports = SystemRandom()
        self.addresses = addresses
        self.port = free_port(ports, addresses)
        self.tls_port = free_port(ports, addresses)
        self.users = settings.users(_USERS)
        self._log = site / "server.log"
        self.config = settings.for_inbound(
            config, site, addresses, port=self.port, tls_port=self.tls_port
        )
        everybody = {**self.users, REPORTS: f"{REPORTS}@{settings.DOMAIN}"}
        settings.write_users(self.config.local.users, everybody)
        self.subject = Subject(
            "inbound",
            make_program(self.config, site),
            (Target.RECEIVER, Target.MASTER, Target.ALL),
            self.config.workers.drain,
        )
        self.maildirs = Maildirs(site / "mail", everybody, run=run, space=space)

    def journal(self) -> journal.Journal:
        return journal.read(self._log)

    def close(self) -> None:
        self.maildirs.close()
        self.subject.program.close()


class InboundScene:
    """Implements `trial.Scene`."""

    def __init__(self, config: Inbound, site: Path, *, run: str, space: int) -> None:
        """Raises CannotRun, OSError."""
        self._server = InboundServer(config, site, addresses=(LOOPBACK,), run=run, space=space)
        self._recipients = tuple(self._server.users.values())
        self._maildirs = self._server.maildirs
        self.subjects = (self._server.subject,)
        self.server = clients_server(self._server.config, self._server.port, self._server.tls_port)
        self.largest = largest_body(config)
        self._ledger: Ledger | None = None

    @property
    def arrived(self) -> int:
        return len(self._maildirs.arrivals)

    @property
    def faults(self) -> int:
        return len(self._maildirs.faults)

    def pick(self, random: Random) -> str:
        return random.choice(self._recipients)

    def sender(self, number: int) -> str:
        return sender(number, settings.DOMAIN)

    def has_room(self) -> bool:
        promised = self._ledger.promised if self._ledger is not None else 0
        return promised - self.arrived < _MOST_UNREAD

    def begin(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._maildirs.start()

    def killed(self, subject: Subject, target: Target, when: float) -> None:
        """Nothing is excused by a kill."""

    def settled(self) -> bool:
        """What is acknowledged is there already."""
        return True

    def account(self, ledger: Ledger) -> Account:
        self._maildirs.finish()
        account = of_inbound(ledger, self._maildirs.arrivals, self._maildirs.faults)
        account.figures["left_in_tmp"] = self._maildirs.left_in_tmp()
        account.faults += self._server.journal().faults
        return account

    def close(self) -> None:
        self._server.close()


def make_program(config: Config, site: Path) -> Program:
    """Write a configuration, and return its server, not yet started. Raises OSError."""
    path = site / "server.toml"
    path.write_text(as_toml(config))
    return Program(path, site / "stderr", clock=time.monotonic)


def clients_server(config: Config, port: int, tls_port: int) -> Server:
    """Where the clients of a server go."""
    return Server(
        LOOPBACK,
        port,
        tls_port if config.listen.smtps else None,
        client_context(verify=False),
    )


def largest_body(config: Config) -> int:
    """How large a body may be, in octets."""
    return max(config.limits.message_size - _HEADER, 1)
