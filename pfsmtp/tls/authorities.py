"""The authorities that the operator names for a smart host, instead of the system's.

They are read once, by whoever makes the contexts: a worker that is confined could not.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from pfsmtp.tls.certificate import TLSError

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----")


def read_authorities(path: Path) -> bytes:
    """Return the certificates in a file, as PEM, without what else is in it. Raises TLSError."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise TLSError(
            f"{path}: the authorities cannot be read ({error.strerror}); "
            "correct authorities in [relay], or put the file there"
        ) from error
    found = _CERTIFICATE.findall(octets)
    if not found:
        raise TLSError(
            f"{path}: there is no certificate in PEM form in this file; "
            "name a file with those of the authorities that the smart host's is from"
        )
    authorities = b"\n".join([*found, b""])
    try:
        trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), authorities)
    except ssl.SSLError as error:
        raise TLSError(
            f"{path}: a certificate in this file is damaged ({error.reason}); get the file anew"
        ) from error
    return authorities


def trust(context: ssl.SSLContext, authorities: bytes) -> None:
    """Have a context trust these. Raises SSLError."""
    context.load_verify_locations(cadata=authorities.decode("ascii"))
