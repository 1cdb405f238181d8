"""Inbound: mail for the users in the map, into their Maildirs, while the client waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from pfsmtp.config import Inbound
from pfsmtp.delivery.maildir import MaildirStore
from pfsmtp.log import Log
from pfsmtp.policy.access import InboundAccess
from pfsmtp.policy.limits import ClientLimits
from pfsmtp.policy.users import UserMap
from pfsmtp.smtp.session import Server


class InboundPlan:
    """Implements `compose.plan.Plan`. Raises UserMapError."""

    def __init__(self, config: Inbound) -> None:
        self._config = config
        self._users = UserMap.load(config.local.users, config.local.separator)

    def server(
        self, log: Log, numbers: Callable[[], int], *, clients: ClientLimits, tls: bool
    ) -> Server:
        config, users = self._config, self._users
        return Server(
            hostname=config.hostname,
            limits=config.limits,
            access=InboundAccess(users, self._own_addresses(), limits=clients),
            store=MaildirStore(
                config.local.maildir,
                users.login,
                hostname=config.hostname,
                numbers=numbers,
                sync=config.local.sync,
            ),
            log=log,
            clock=time.monotonic,
            tls=tls,
        )

    workers = ()
    socket = None

    def submissions(self, server: Server) -> None:
        """There are none: mail comes by SMTP."""

    def _own_addresses(self) -> list[str]:
        """Besides the one that a client came to, which is always ours."""
        listen = self._config.listen
        return [address.host for address in (*listen.smtp, *listen.smtps)]
