"""What protects a connection, for Received fields and the log."""

from __future__ import annotations

import ssl

from pfsmtp.smtp.envelope import Encryption


def describe(connection: ssl.SSLSocket | ssl.SSLObject) -> Encryption:
    """Return version and cipher of a connection whose handshake is done, in OpenSSL's names."""
    cipher = connection.cipher()
    version = connection.version()
    if cipher is None or version is None:
        raise ValueError("the TLS handshake is not done")
    return Encryption(version, cipher[0])
