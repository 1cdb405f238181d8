"""Puts the parts together: the only place that knows them all, and where the two servers part.

service      what the master runs: reads the configuration, binds, makes generations
listeners    the sockets of all generations
plan         what the two servers each make of their configuration
inbound      a receiver whose messages go into Maildirs
outbound     a receiver whose messages go into the queue, and deliverers
confinement  what each kind of worker is left with
"""

from pfsmtp.compose.service import MailService, check

__all__ = ["MailService", "check"]
