"""One message on its way to one destination: from host to host, until all recipients are settled.

The first host that takes the message ends the search; a 5yz from a host is final (RFC 5321 §4.2.1);
who got 4yz is tried at the next address, and so is everybody when a host fails. Where a kept
connection turns out dead before anything was said on it, the attempt begins anew, with no outcome.

A recipient for whom all was sent and no reply came is not tried any further in this attempt: the
host may well have the message, and asking another one would make a duplicate.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from pfsmtp.config import Relay as Settings
from pfsmtp.delivery.relay.backoff import BackOff, Held
from pfsmtp.delivery.relay.connection import Budgets, Connection, Judge, Stream
from pfsmtp.delivery.relay.form import Form, Forms, Unit
from pfsmtp.delivery.relay.gate import Gate
from pfsmtp.delivery.relay.pool import Pool
from pfsmtp.delivery.relay.search import NO_ANSWER, Search
from pfsmtp.delivery.relay.way import Way
from pfsmtp.resolver import Destination
from pfsmtp.smtp.client import Client, TLSPolicy
from pfsmtp.smtp.client.conversation import HostFailure, TLSFailed
from pfsmtp.smtp.client.transaction import DotStuff, Remote, TransactionResult
from pfsmtp.smtp.errors import DeliveryFailure, TransientFailure
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status

_LOOK_UP = 30.0

# RFC 3463 §3.8: a cryptographic failure.
_NOT_ENCRYPTED = Status(4, 7, 5)


class EventLog(Protocol):
    """Where events go."""

    def event(self, name: str, /, **fields: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What the attempts of a process have in common."""

    way: Way
    settings: Settings
    budgets: Budgets
    hostname: str
    hosts: BackOff[str]
    gate: Gate
    pool: Pool
    dot_stuff: DotStuff
    judge: Judge
    log: EventLog
    clock: Callable[[], float]
    make_stream: Callable[[socket.socket], Stream]


class Attempt:
    """One message, one destination, once."""

    def __init__(self, shared: Shared, unit: Unit, key: str) -> None:
        """`key` is the destination as `Gate` and `Pool` know it."""
        self.reached: bool | None = None  # whether a host was of use; None: not known
        self.held: Held | None = None  # nothing may be tried before then
        self._shared = shared
        self._unit = unit
        self._key = key
        self._outcomes: list[Outcome | None] = [None] * len(unit.recipients)
        self._pending = list(range(len(unit.recipients)))
        self._failures: list[Outcome] = []  # of hosts
        self._search: Search | None = None
        self._tried: set[str] = set()  # addresses
        self._pooled = True  # kept connections may be used
        self._forms = Forms(unit)

    @property
    def outcomes(self) -> list[Outcome]:
        """One for each recipient; none at all when nothing was tried."""
        settled = [outcome for outcome in self._outcomes if outcome is not None]
        if len(settled) == len(self._outcomes):
            return settled
        if self.held is not None and not self._failures and not settled:
            return []
        rest = self._verdict()
        return [outcome or rest for outcome in self._outcomes]

    @property
    def reason(self) -> str:
        """Why no host was of use."""
        return self._verdict().reason

    def run(self) -> None:
        """Go through with it; `outcomes`, `held` and `reached` say what came of it."""
        try:
            while self._pending and (connection := self._next_connection()):
                self._use(connection)
        except DeliveryFailure as failure:
            self._settle(failure)
            if isinstance(failure, TransientFailure):
                self.reached = False
                self._failures.append(_outcome(failure))
        finally:
            if self._search is not None:
                self._search.leave()

    # ------------------------------------------------------------- which host

    def _next_connection(self) -> Connection | None:
        """A connection on which MAIL may be said. Raises DeliveryFailure."""
        shared = self._shared
        if self._pooled and not self._tried and (kept := shared.pool.take(self._key)):
            return kept
        search = self._search
        if search is None:
            search = self._search = self._begin_search()
        while destination := search.peek():
            if self._pooled and (kept := shared.pool.take_address(destination.address)):
                search.skip()
                return kept
            self.held = shared.gate.connect(self._key)
            if self.held is not None:
                return None
            if connection := self._connect(search):
                return connection
        self.held = search.held
        return None

    def _begin_search(self) -> Search:
        shared = self._shared
        deadline = shared.clock() + _LOOK_UP
        return Search(
            shared.way.route(self._unit.domain, deadline),
            shared.way.port,
            most=shared.settings.addresses,
            timeout=shared.budgets.timeouts.connect,
            alone=shared.budgets.alone,
            tried=self._tried,
            back_off=shared.hosts,
            clock=shared.clock,
        )

    def _connect(self, search: Search) -> Connection | None:
        """Connect to the next address that answers, and come to where MAIL may be said."""
        found = search.connect()
        self._note_failures(search)
        if found is None:
            return None
        destination, sock = found
        tls = self._shared.way.tls
        while True:
            connection = self._make_connection(destination, sock)
            try:
                self._open(connection, tls)
                return connection
            except HostFailure as failure:
                self._host_failed(connection.client.remote, failure)
                return None
            except TLSFailed as failure:
                self._tls_failed(connection.client.remote, failure)
                if tls is not TLSPolicy.PREFERRED:
                    return None
            # What cannot be encrypted goes in clear (RFC 7435 §3), over a new connection.
            tls = TLSPolicy.NEVER
            again = search.reconnect(destination)
            self._note_failures(search)
            if again is None:
                return None
            sock = again

    def _make_connection(self, destination: Destination, sock: socket.socket) -> Connection:
        shared = self._shared
        return Connection(
            shared.make_stream(sock),
            Client(
                Remote(destination.host, destination.address),
                shared.hostname,
                dot_stuff=shared.dot_stuff,
            ),
            budgets=shared.budgets,
            clock=shared.clock,
        )

    def _open(self, connection: Connection, tls: TLSPolicy) -> None:
        way = self._shared.way
        try:
            connection.open(tls, way.credentials, context=way.context, judge=self._shared.judge)
        except BaseException:
            connection.close()
            raise
        connection.downgraded = tls is TLSPolicy.NEVER
        remote = connection.client.remote
        self._shared.log.event(
            "host-connected", host=remote.host, address=remote.address, tls=remote.tls
        )

    # -------------------------------------------------------------- what is sent

    def _use(self, connection: Connection) -> None:
        """Send to all who are pending, in as many transactions as it takes."""
        self._tried.add(connection.address)
        try:
            self._send(connection)
        except BaseException:
            connection.close()
            self._shared.hosts.left(connection.address)
            raise

    def _send(self, connection: Connection) -> None:
        client = connection.client
        most = min(
            self._shared.settings.recipients,
            client.capabilities.recipients or self._shared.settings.recipients,
        )
        try:
            form = self._forms.form_for(client.capabilities, client.remote.host)
        except DeliveryFailure as failure:
            self._settle(failure, client.remote)
            self._shared.hosts.left(connection.address)
            self._shared.pool.give(self._key, connection)
            return
        queue = list(self._pending)
        was_kept = connection.messages > 0
        while queue and client.is_usable():
            group, queue = queue[:most], queue[most:]
            result = self._transact(connection, group, form)
            if result.untouched and was_kept and result.failure is not None:
                # The host hung up while nobody spoke; that says nothing about it.
                self._pooled = False
                self._tried.discard(connection.address)
                self._shared.hosts.left(connection.address)
                connection.close()
                return
            was_kept = False
            self._record(group, result)
            queue = [group[number] for number in result.again] + queue
        self._finish(connection)

    def _transact(self, connection: Connection, group: list[int], form: Form) -> TransactionResult:
        return connection.send(
            self._unit.envelope,
            [self._unit.recipients[number] for number in group],
            content=form.content,
            eight_bit=form.eight_bit,
            smtputf8=form.smtputf8,
            spare_530=connection.downgraded or self._shared.way.smart_host is not None,
        )

    def _record(self, group: list[int], result: TransactionResult) -> None:
        for number, outcome in zip(group, result.outcomes, strict=True):
            self._outcomes[number] = outcome
            if outcome.is_final or outcome.uncertain:
                self._pending.remove(number)
            if outcome.uncertain:
                self._shared.log.event(
                    "delivery-uncertain",
                    id=self._unit.id,
                    recipient=str(self._unit.recipients[number].mailbox),
                    host=outcome.host,
                    address=outcome.address,
                    reason=outcome.reason,
                )

    def _finish(self, connection: Connection) -> None:
        """Keep the connection for the next message, or see why that cannot be."""
        shared = self._shared
        client = connection.client
        failure = client.failure
        if failure is None:
            self.reached = True
            shared.hosts.succeeded(connection.address)
            if client.is_usable():
                shared.pool.give(self._key, connection)
            else:
                connection.close()
            return
        connection.close()
        if isinstance(failure, HostFailure):
            self._host_failed(client.remote, failure)
        else:
            # The message itself: no other host will find it any better.
            shared.hosts.left(connection.address)
            self._settle(failure, client.remote)

    # ------------------------------------------------------------ what failed

    def _note_failures(self, search: Search) -> None:
        """Take over what became of addresses that could not be connected to."""
        for missed in search.take_failures():
            host, address = missed.destination.host, missed.destination.address
            reason = f"{host} {missed.reason}"
            self._failed(Outcome(Kind.DEFERRED, missed.status, reason, host, address))

    def _host_failed(self, remote: Remote, failure: HostFailure) -> None:
        text = failure.text if failure.command else f"{remote.host} {failure.text}"
        # RFC 5321 §3.1: 554 says that this host takes no mail at all. With a smart host that is
        # the operator's to mend.
        final = failure.status.kind == 5 and self._shared.way.smart_host is None
        outcome = Outcome(
            Kind.FAILED if final else Kind.DEFERRED,
            failure.status if final else replace(failure.status, kind=4),
            text,
            remote.host,
            remote.address,
            failure.command,
            remote.tls,
        )
        self._shared.hosts.failed(remote.address, outcome.reason)
        self._failed(outcome)

    def _tls_failed(self, remote: Remote, failure: TLSFailed) -> None:
        self._shared.log.event(
            "tls-failed", host=remote.host, address=remote.address, reason=str(failure)
        )
        if self._shared.way.tls is not TLSPolicy.PREFERRED:
            text = f"could not be encrypted to ({failure})"
            self._host_failed(remote, HostFailure(_NOT_ENCRYPTED, text))

    def _failed(self, outcome: Outcome) -> None:
        self._failures.append(outcome)
        if self.reached is None:
            self.reached = False
        self._shared.log.event(
            "host-failed", host=outcome.host, address=outcome.address, reason=outcome.text
        )

    def _settle(self, failure: DeliveryFailure, remote: Remote | None = None) -> None:
        """Let a failure be the outcome of all who are pending, and end the attempt."""
        outcome = _outcome(failure, remote)
        for number in self._pending:
            self._outcomes[number] = outcome
        self._pending.clear()

    def _verdict(self) -> Outcome:
        """The outcome of whoever was not heard about from any host."""
        for outcome in reversed(self._failures):
            if outcome.kind is Kind.DEFERRED:
                return outcome
        held = self.held
        if held is not None:
            return Outcome(Kind.DEFERRED, NO_ANSWER, held.reason)
        if self._failures:
            return self._failures[-1]
        return Outcome(Kind.DEFERRED, NO_ANSWER, "no host could be tried")


def _outcome(failure: DeliveryFailure, remote: Remote | None = None) -> Outcome:
    """The outcome that a failure without a reply comes to."""
    return Outcome(
        Kind.FAILED if failure.status.kind == 5 else Kind.DEFERRED,
        failure.status,
        failure.text,
        remote.host if remote is not None else "",
        remote.address if remote is not None else "",
    )
