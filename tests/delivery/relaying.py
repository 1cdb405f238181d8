"""A relay for tests, with short times and hosts on loopback."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import ClassVar

from pfsmtp.config import Relay as Settings
from pfsmtp.config import Timeouts
from pfsmtp.config.units import Seconds
from pfsmtp.delivery.relay import Relay, Report
from pfsmtp.delivery.relay.connection import Budgets, Judge
from pfsmtp.delivery.relay.content import OctetsContent
from pfsmtp.delivery.relay.form import Unit
from pfsmtp.delivery.relay.way import Way
from pfsmtp.resolver import Destination
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client import Credentials, TLSPolicy
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.wire import dot_stuff
from pfsmtp.tls import Trust, client_context
from tests.delivery.hosts import Behaviour, Host

ALICE = Mailbox("alice", "example.net")
MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"
SHORT = 0.3


def timeouts(**seconds: float) -> Timeouts:
    """Seconds for each wait; those that are not given are ample."""
    names = Timeouts.__struct_fields__
    return Timeouts(**{name: Seconds(seconds.get(name, 10.0)) for name in names})


class Events:
    """What has been logged."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, /, **fields: object) -> None:
        self.seen.append((name, fields))

    def named(self, name: str) -> list[dict[str, object]]:
        return [fields for seen, fields in self.seen if seen == name]


@dataclass
class Relaying:
    """A relay whose destinations are all the same addresses, or a failure to find any."""

    addresses: Sequence[str] = ("127.0.0.1",)
    port: int = 0
    settings: Settings = field(default_factory=Settings)
    budgets: Budgets = field(default_factory=lambda: Budgets(timeouts(), alone=SHORT))
    tls: TLSPolicy = TLSPolicy.PREFERRED
    context: ssl.SSLContext = field(default_factory=lambda: client_context(verify=False))
    credentials: Credentials | None = None
    smart_host: str | None = None
    judge: Judge = field(default_factory=Trust)
    failure: DeliveryFailure | None = None
    clock: Callable[[], float] = time.monotonic
    events: Events = field(default_factory=Events)
    routes: int = 0
    relay: Relay = field(init=False)
    made: ClassVar[list[Relaying]] = []  # closed at the end of each test

    def __post_init__(self) -> None:
        self.made.append(self)
        self.relay = Relay(
            Way(
                self._route,
                self.port,
                self.tls,
                self.context,
                self.credentials,
                self.smart_host,
            ),
            self.settings,
            budgets=self.budgets,
            hostname="us.example.org",
            dot_stuff=dot_stuff,
            judge=self.judge,
            log=self.events,
            clock=self.clock,
            random=lambda: 0.5,
        )

    def _route(self, domain: str, deadline: float) -> Iterator[Destination]:
        self.routes += 1
        if self.failure is not None:
            raise self.failure
        return iter(
            [
                Destination(f"mx{number}.example.org", address)
                for number, address in enumerate(self.addresses, 1)
            ]
        )

    def try_(
        self,
        *names: str,
        domain: str = "example.org",
        message: bytes = MESSAGE,
        smtputf8: bool = False,
        eight_bit: bool = False,
        long_lines: bool = False,
    ) -> Report:
        """Attempt to deliver a message to these local-parts."""
        recipients = tuple(Recipient(Mailbox(name, domain)) for name in names or ("bob",))
        envelope = Envelope(ALICE, recipients, smtputf8=smtputf8)
        content = OctetsContent(message)
        return self.relay.deliver(
            Unit(
                "id",
                domain,
                envelope,
                recipients,
                content,
                eight_bit=eight_bit,
                long_lines=long_lines,
            )
        )

    def deliver(self, *names: str, smtputf8: bool = False) -> list[Outcome]:
        report = self.try_(*names, smtputf8=smtputf8)
        assert report.held is None
        return report.outcomes

    def deliver_one(self, *, smtputf8: bool = False) -> Outcome:
        (outcome,) = self.deliver(smtputf8=smtputf8)
        return outcome


def hosts(stack: ExitStack, *behaviours: dict[str, Behaviour]) -> list[Host]:
    """Hosts at 127.0.0.1, 127.0.0.2 and so on, all at the same port."""
    while True:
        found: list[Host] = []
        with ExitStack() as together, suppress(OSError):  # the port may be taken at one of them
            for number, replies in enumerate(behaviours, 1):
                port = found[0].port if found else 0
                host = Host(replies, address=f"127.0.0.{number}", port=port)
                found.append(together.enter_context(host))
            stack.push(together.pop_all())
            return found


def relaying(*hosts: Host) -> Relaying:
    """A relay to these hosts."""
    return Relaying([host.address for host in hosts], hosts[0].port)


def said(outcome: Outcome) -> tuple[Kind, str, str]:
    return outcome.kind, str(outcome.status), outcome.text
