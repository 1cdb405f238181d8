"""pfsmtp: a prefork SMTP server, inbound into Maildirs and outbound to the MX hosts."""

from importlib.metadata import version

__version__ = version("pfsmtp")
