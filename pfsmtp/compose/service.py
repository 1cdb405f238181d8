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
from typing import Protocol

from pfsmtp import config as configuration
from pfsmtp.compose import confinement
from pfsmtp.compose.inbound import InboundPlan
from pfsmtp.compose.listeners import Listeners
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
from pfsmtp.smtp.session import Server, Session
from pfsmtp.tls import TLSError, describe, ensure_self_signed, server_context

_SEATS = 256
"""Receivers of all generations together that have a column of their own in the table of clients."""


class Plan(Protocol):
    """The final delivery, in which inbound and outbound differ; read, checked, not running."""

    def server(
        self, log: Log, numbers: Callable[[], int], *, clients: ClientLimits, tls: bool
    ) -> Server:
        """What the sessions of a receiver are given; called in its process."""
        ...


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

    def load(self) -> MailGeneration:
        """Raises ServiceError, and has then changed nothing."""
        try:
            config = configuration.load(self._path)
            plan = _plan(config)
            tls = _tls_context(config, self._log)
            who = identity(config.user, config.group)
            listeners = self._listeners.take(config.listen)
        except (ConfigError, UserMapError, TLSError, BindError) as error:
            raise ServiceError(str(error)) from error
        receiver = Role(
            "receiver",
            config.workers.processes or len(os.sched_getaffinity(0)),
            partial(self._receiver, config, plan, listeners, tls),
        )
        # What there is now stays: no worker need look at it again, and so no page be copied.
        gc.freeze()
        return MailGeneration([receiver], who, partial(self._listeners.give_back, listeners))

    def tick(self) -> None:
        self._numbers.tick()

    def worker_died(self, pid: int) -> None:
        self._numbers.free_dead(pid)
        seat = self._seats.of(pid)
        if seat is not None:
            self._clients.take_seat(seat)
            self._seats.free(seat)

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
        return Receiver(
            context,
            plan.server(self._log, self._numbers.next, clients=clients, tls=tls is not None),
            listeners,
            connect=connect,
            clients=clients,
            most=config.workers.connections,
        )


@dataclass(frozen=True, slots=True)
class MailGeneration:
    """Implements `process.service.Generation`."""

    roles: Sequence[Role]
    identity: Identity | None
    close: Callable[[], None]


def _plan(config: Config) -> Plan:
    match config:
        case Inbound():
            return InboundPlan(config)
        case Outbound():
            raise ServiceError("outbound")


def _tls_context(config: Config, log: Log) -> ssl.SSLContext | None:
    """The context of all connections; with a certificate of our own making at the first start."""
    certificate, key = config.tls.certificate, config.tls.key
    if certificate is None or key is None:
        return None
    if ensure_self_signed(certificate, key, hostname=config.hostname):
        log.event("certificate-made", file=str(certificate), reason="none was there: self-signed")
    return server_context(
        [CertificatePair(certificate=certificate, key=key), *config.tls.more], log
    )
