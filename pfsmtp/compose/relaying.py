"""Deliverers, who take mail out of the queue and on to other hosts.

The master imports this just before it forks the first of them, when receivers are at work already.
"""

from __future__ import annotations

import os
import random
import time
from functools import partial

from pfsmtp.compose.confinement import confine_deliverer
from pfsmtp.config import Outbound
from pfsmtp.delivery.relay import Relay
from pfsmtp.delivery.relay.connection import Budgets
from pfsmtp.delivery.relay.way import Way
from pfsmtp.log import Log
from pfsmtp.mailqueue import resting
from pfsmtp.mailqueue.backend import Shard
from pfsmtp.mailqueue.schedule import Schedule
from pfsmtp.process.service import Context
from pfsmtp.resolver import Resolver
from pfsmtp.resolver.ourselves import Ourselves
from pfsmtp.resolver.servers import NameServer
from pfsmtp.roles.deliverer import Deliverer
from pfsmtp.roles.notices import Notices
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client import Credentials
from pfsmtp.smtp.wire import dot_stuff
from pfsmtp.tls import Trust, client_context


def deliverer(
    config: Outbound,
    context: Context,
    shard: Shard,
    *,
    authorities: bytes | None,
    credentials: Credentials | None,
    postmaster: Mailbox | None,
    log: Log,
) -> Deliverer:
    """Make a deliverer, in its process, which is confined from then on."""
    confine_deliverer(config, log)
    schedule = Schedule(config.schedule, random.random)
    return Deliverer(
        context,
        shard,
        Relay(
            _way(config, authorities, credentials),
            config.relay,
            budgets=Budgets(config.schedule.timeouts),
            hostname=config.hostname,
            dot_stuff=dot_stuff,
            judge=Trust(),
            log=log,
            clock=time.monotonic,
            random=random.random,
        ),
        schedule=schedule,
        notices=Notices(config.hostname, postmaster, schedule, log, os.urandom),
        most=config.workers.connections,
        publish=partial(resting.publish, config.queue.directory, context.index),
        log=log,
        clock=time.monotonic,
        wall_clock=time.time,
    )


def _way(config: Outbound, authorities: bytes | None, credentials: Credentials | None) -> Way:
    """To the hosts of the world, or to the one that the operator has named."""
    relay = config.relay
    resolver = Resolver.asking(
        [NameServer(server.host, server.port) for server in relay.nameserver],
        time.monotonic,
        source=random.Random(),
        # We listen on loopback alone: no other address leads back to us.
        own=Ourselves(loopback=relay.loopback),
    )
    if relay.host is None:
        return Way.to_exchangers(resolver, relay.port, client_context(verify=False))
    return Way.to_smart_host(
        resolver,
        relay.host.name,
        port=relay.host.port,
        context=client_context(verify=True, authorities=authorities),
        credentials=credentials,
    )
