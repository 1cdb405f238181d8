"""TLS contexts from certificate files and a policy (RFC 3207, RFC 8314, RFC 9325).

certificate  a certificate and its key, loaded and examined; what is wrong with them, and the remedy
server       the context that all connections of a server share; certificates by name (SNI)
selfsigned   the certificate of the first start
issue          … with what needs `cryptography`
client       the contexts of the outbound side
authorities  … and whom they trust, where the operator says so
trust        whether what a host showed could be trusted
verify         … with what needs `cryptography`
connection   what protects a connection

Sockets, STARTTLS and deadlines are left to `net`. Everything here happens once at a start or a
reload, but for `describe` and `Trust`.
"""

from pfsmtp.tls.authorities import read_authorities
from pfsmtp.tls.certificate import TLSError
from pfsmtp.tls.client import client_context
from pfsmtp.tls.connection import describe
from pfsmtp.tls.selfsigned import ensure_self_signed
from pfsmtp.tls.server import server_context
from pfsmtp.tls.trust import Trust

__all__ = [
    "TLSError",
    "Trust",
    "client_context",
    "describe",
    "ensure_self_signed",
    "read_authorities",
    "server_context",
]
