"""Outbound: mail of this machine's programs into the queue, and from there to other hosts.

Here are two kinds of worker: receivers, whose final delivery is the queue, and deliverers, who
take the mail out again (`relaying`). The queue belongs to one server: its master holds the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pfsmtp.compose.plan import Kind
from pfsmtp.config import Outbound
from pfsmtp.log import Log
from pfsmtp.mailqueue import handover
from pfsmtp.mailqueue.guard import Guard, QueueInUse
from pfsmtp.mailqueue.spool import Spool
from pfsmtp.mailqueue.store import QueueStore
from pfsmtp.message.trace import Dates
from pfsmtp.policy.access import LoopbackAccess
from pfsmtp.policy.limits import ClientLimits
from pfsmtp.process.errors import ServiceError
from pfsmtp.process.privileges import Identity
from pfsmtp.process.service import Body, Context
from pfsmtp.roles.submission import Submissions
from pfsmtp.sendmail.site import mailname
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.session import Server
from pfsmtp.tls import read_authorities

if TYPE_CHECKING:
    from pfsmtp.smtp.client import Credentials


def hold_queue(config: Outbound, who: Identity | None, held: dict[Path, object]) -> None:
    """Take the lock on the queue, unless we have it. Raises ServiceError, OSError."""
    path = config.queue.directory
    if path in held:
        return
    try:
        held[path] = Guard(path, now=time.time(), owner=(who.user, who.group) if who else None)
    except QueueInUse as error:
        raise ServiceError(str(error)) from error


def tell_of_death(queues: Iterable[Path], log: Log) -> None:
    """A worker was killed, perhaps when it had put a message and not yet told of it."""
    for path in queues:
        try:
            handover.tell_of_death(path)
        except OSError as error:
            # Then it is found by the next round.
            log.event("queue-trouble", reason=str(error))


class OutboundPlan:
    """Implements `compose.plan.Plan`."""

    def __init__(self, config: Outbound) -> None:
        """Raises ServiceError, TLSError."""
        self._config = config
        self._deliverers = config.workers.deliverers or 1
        self.workers = (Kind("deliverer", self._deliverers, self.deliverer, _import_relaying),)
        self._credentials = _credentials(config.relay.credentials)
        authorities = config.relay.authorities
        self._authorities = read_authorities(authorities) if authorities is not None else None
        self._postmaster = _mailbox(config.postmaster)
        self.socket = config.listen.sendmail
        # Workers cannot read it, and it is to change with a reload only.
        self._domain = mailname() or config.hostname

    def server(
        self, log: Log, numbers: Callable[[], int], *, clients: ClientLimits, tls: bool
    ) -> Server:
        config = self._config
        return Server(
            hostname=config.hostname,
            limits=config.limits,
            access=LoopbackAccess(self._postmaster),
            store=QueueStore(self._queue(log, numbers), dates=Dates(), postmaster=self._postmaster),
            log=log,
            clock=time.monotonic,
            tls=tls,
            dsn=True,
        )

    def submissions(self, server: Server) -> Submissions:
        return Submissions(server, domain=self._domain)

    def deliverer(self, context: Context, log: Log, numbers: Callable[[], int]) -> Body:
        """Make a deliverer, in its process."""
        from pfsmtp.compose import relaying

        return relaying.deliverer(
            self._config,
            context,
            self._queue(log, numbers).shard(context.index),
            authorities=self._authorities,
            credentials=self._credentials,
            postmaster=self._postmaster,
            log=log,
        )

    def _queue(self, log: Log, numbers: Callable[[], int]) -> Spool:
        return Spool(
            self._config.queue.directory, deliverers=self._deliverers, log=log, number=numbers
        )


def _import_relaying() -> None:
    """As much as all else; nobody but deliverers needs it, and receivers need not wait for it."""
    from pfsmtp.compose import relaying  # noqa: F401


def _credentials(path: Path | None) -> Credentials | None:
    if path is None:
        return None
    from pfsmtp.delivery.relay.way import CredentialsError, read_credentials

    try:
        return read_credentials(path)
    except CredentialsError as error:
        raise ServiceError(str(error)) from error


def _mailbox(text: str | None) -> Mailbox | None:
    """An address of the configuration, which has been checked there."""
    if text is None:
        return None
    local_part, _, domain = text.rpartition("@")
    return Mailbox(local_part, domain)
