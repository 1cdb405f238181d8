"""pfsmtp: a prefork SMTP server, inbound into Maildirs and outbound to the MX hosts."""

__version__ = "0.1.0"
