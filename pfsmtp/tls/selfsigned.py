"""The certificate of the first start: made when the operator has put none there.

Key and certificate appear whole or not at all, and nothing that exists is ever replaced. The key
comes first: so whoever sees the certificate has the key too, two servers that start together end
with one pair, and a start that was cut off between the two is taken up by the next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pfsmtp.tls.certificate import TLSError


def ensure_self_signed(
    certificate: Path,
    key: Path,
    *,
    hostname: str,
    clock: Callable[[], float] = time.time,
) -> bool:
    """Make a key (ECDSA P-256) and a certificate for it, unless both are there; say if it did.

    Paths are absolute; directories are made. A key without a certificate gets one; a certificate
    without its key is an error. Files are for this user only. Raises TLSError.
    """
    try:
        has_certificate = certificate.exists()
        has_key = key.exists()
        if has_certificate and not has_key:
            raise TLSError(
                f"{key}: the key of {certificate} does not exist; put it there, "
                "or remove the certificate, so that a self-signed pair is made"
            )
        return not has_certificate and _make(certificate, key, hostname=hostname, now=clock())
    except OSError as error:
        raise TLSError(
            f"{error.filename or certificate}: a self-signed certificate cannot be made "
            f"({error.strerror}); let the server's user write there, "
            "or name existing files in [tls]"
        ) from error


def _make(certificate: Path, key: Path, *, hostname: str, now: float) -> bool:
    from pfsmtp.tls import issue

    _place(key, issue.new_key(), now=now)
    try:
        octets = issue.new_certificate(key.read_bytes(), hostname, now=now)
    except ValueError as error:
        raise TLSError(
            f"{key}: no certificate can be made for this key ({error}); put its certificate "
            f"at {certificate}, or remove the key, so that a self-signed pair is made"
        ) from error
    return _place(certificate, octets, now=now)


def _place(path: Path, octets: bytes, *, now: float) -> bool:
    """Put a file on disk, whole, mode 0600; False if there is one already."""
    from pfsmtp import durable

    directory = durable.make_path(path.parent, now=now)
    temporary = f".{path.name}.{os.urandom(8).hex()}"
    durable.store(directory, temporary, [octets])
    try:
        durable.move(directory, temporary, directory, path.name)
    except FileExistsError:
        return False
    finally:
        durable.remove(directory, temporary)
    directory.sync()
    return True
