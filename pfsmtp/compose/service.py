"""What the master runs: reads the configuration, binds, and makes a generation of it.

`load` checks everything before it binds anything, so that a reload with a fault in a file leaves
the generation that serves as it is. What outlives generations is made once, here: the sockets, the
counter of file names, the table of clients, the log ([log] is read at the start only).
"""

from __future__ import annotations

import gc
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pfsmtp import config as configuration
from pfsmtp.compose import confinement
from pfsmtp.compose.inbound import InboundPlan
from pfsmtp.compose.listeners import Listeners
from pfsmtp.compose.plan import Kind, Plan
from pfsmtp.config import CertificatePair, Config, ConfigError, Inbound, Outbound
from pfsmtp.log import Log
from pfsmtp.net.connection import Connection
from pfsmtp.net.listener import BindError, Listener
from pfsmtp.net.stream import ClearStream
from pfsmtp.policy.limits import ClientLimits, ClientTable
from pfsmtp.policy.users import UserMapError
from pfsmtp.process.errors import ServiceError
from pfsmtp.process.privileges import Identity, identity
from pfsmtp.process.seats import Seats
from pfsmtp.process.service import Body, Context, Role
from pfsmtp.process.shared import Numbers
from pfsmtp.process.systemd import InheritedDescriptor
from pfsmtp.roles.receiver import Receiver
from pfsmtp.smtp.session import Session
from pfsmtp.tls import TLSError, describe, ensure_self_signed, server_context

_SEATS = 256
"""Receivers of all generations together that have a column of their own in the table of clients."""


class MailService:
    """Implements `process.service.Service` for the configuration in a file."""

    def __init__(self, path: Path, log: Log, inherited: Sequence[InheritedDescriptor]) -> None:
        self._path = path
        self._log = log
        self._listeners = Listeners(inherited)
        confinement.report(log)
        self._numbers = Numbers()
        self._seats = Seats(_SEATS)
        self._clients = ClientTable(_SEATS)
        self._held: dict[Path, object] = {}
        """Locks on queues, from the first generation that has one to our end."""

    def load(self) -> MailGeneration:
        """Raises ServiceError, and has then changed nothing."""
        try:
            config = configuration.load(self._path)
            who = identity(config.user, config.group)
            plan = self._plan(config, who)
            tls = _tls_context(config, self._log)
            listeners = self._listeners.take(config.listen, plan.socket)
        except (ConfigError, UserMapError, TLSError, BindError, OSError) as error:
            raise ServiceError(str(error)) from error
        # Those beside the receivers compute as well, and are better off with a core of their own.
        further = sum(kind.count for kind in plan.workers)
        cores = max(1, len(os.sched_getaffinity(0)) - further)
        receivers = config.workers.processes or cores
        up, down = (_up, _down) if config.workers.pin else (None, None)
        receive = partial(self._receiver, config, plan, listeners, tls)
        roles = [Role("receiver", receivers, receive, core=up)]
        roles += [
            Role(kind.name, kind.count, partial(self._further, config, kind), down, kind.prepare)
            for kind in plan.workers
        ]
        # What there is now stays: no worker need look at it again, and so no page be copied.
        gc.freeze()
        return MailGeneration(roles, who, partial(self._listeners.give_back, listeners))

    def tick(self) -> None:
        self._numbers.tick()

    def worker_died(self, pid: int, *, killed: bool) -> None:
        self._numbers.free_dead(pid)
        if killed and self._held:
            from pfsmtp.compose.outbound import tell_of_death

            tell_of_death(self._held, self._log)
        seat = self._seats.of(pid)
        if seat is not None:
            self._clients.forget_worker(seat)
            self._seats.free(seat)

    def _plan(self, config: Config, who: Identity | None) -> Plan:
        """Where inbound and outbound part."""
        match config:
            case Inbound():
                return InboundPlan(config)
            case Outbound():
                # Its parts are many, and an inbound server has no use for them.
                from pfsmtp.compose.outbound import OutboundPlan, hold_queue

                hold_queue(config, who, self._held)
                return OutboundPlan(config)

    def _further(self, config: Config, kind: Kind, context: Context) -> Body:
        """Make a worker that takes no connections, in its process."""
        self._listeners.keep_only([])
        return kind.make(context, self._log, self._numbers.next)

    def _receiver(
        self,
        config: Config,
        plan: Plan,
        listeners: Sequence[Listener],
        tls: ssl.SSLContext | None,
        context: Context,
    ) -> Body:
        """Make a receiver, in its process."""
        self._listeners.keep_only(listeners)
        confinement.confine_receiver(config, self._log)
        limits = config.limits

        def connect(stream: ClearStream, session: Session, wake: int) -> Connection:
            return Connection(stream, session, wake=wake, tls=tls, describe=describe)

        clients = ClientLimits(
            self._clients,
            self._seats.take(),
            connections=limits.client_connections,
            rate=limits.client_rate,
        )
        server = plan.server(self._log, self._numbers.next, clients=clients, tls=tls is not None)
        return Receiver(
            context,
            server,
            listeners,
            connect=connect,
            clients=clients,
            most=config.workers.connections,
            submissions=plan.submissions(server),
        )


def _up(index: int) -> int:
    """Receivers take the cores from the first on."""
    return index


def _down(index: int) -> int:
    """All others from the last, so that they meet receivers late."""
    return -1 - index


@dataclass(frozen=True, slots=True)
class MailGeneration:
    """Implements `process.service.Generation`."""

    roles: Sequence[Role]
    identity: Identity | None
    close: Callable[[], None]


def check(path: Path, log: Log) -> None:
    """See that a server could run with this configuration, and change nothing. Raises ServiceError.

    What only a start shows is left out: whether addresses can be bound, and directories written.
    """
    try:
        config = configuration.load(path)
        identity(config.user, config.group)
        match config:
            case Inbound():
                InboundPlan(config)
            case Outbound():
                from pfsmtp.compose.outbound import OutboundPlan

                OutboundPlan(config)
        certificate, key = config.tls.certificate, config.tls.key
        if certificate is not None and key is not None and certificate.exists():
            server_context(_pairs(config, certificate, key), log)
    except (ConfigError, UserMapError, TLSError, OSError) as error:
        raise ServiceError(str(error)) from error


def _pairs(config: Config, certificate: Path, key: Path) -> list[CertificatePair]:
    return [CertificatePair(certificate=certificate, key=key), *config.tls.more]


def _tls_context(config: Config, log: Log) -> ssl.SSLContext | None:
    """The context of all connections; with a certificate of our own making at the first start."""
    certificate, key = config.tls.certificate, config.tls.key
    if certificate is None or key is None:
        return None
    if ensure_self_signed(certificate, key, hostname=config.hostname):
        log.event("certificate-made", file=str(certificate), reason="none was there: self-signed")
    return server_context(_pairs(config, certificate, key), log)
