"""Whether what a host showed could be trusted, for the log: it is used in any case (RFC 7435).

`ssl` tells nothing of a certificate that it does not verify, and ends the handshake when it does.
So the chain is looked at afterwards. The authorities of the system are read when the first chain
comes; until then this costs nothing.
"""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pfsmtp.tls.verify import Verifier


class Trust:
    """Judges certificates, by the authorities in a PEM text or the system's; threads share it."""

    def __init__(
        self, authorities: bytes | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._authorities = authorities
        self._clock = clock
        self._lock = threading.Lock()
        self._verifier: Verifier | None = None

    def __call__(self, connection: ssl.SSLObject, host: str, /) -> str:
        """Return `valid`, or what is wrong with the certificate of this host, in a few words.

        `host` is the name, or the address without brackets, that was connected to. Never raises.
        """
        chain = _chain(connection)
        if not chain:
            return "missing"
        return self._ready().verdict(chain, host, self._clock())

    def _ready(self) -> Verifier:
        with self._lock:
            if self._verifier is None:
                from pfsmtp.tls.verify import Verifier

                self._verifier = Verifier(self._authorities)
            return self._verifier


def _chain(connection: ssl.SSLObject) -> list[bytes]:
    """The certificates as the host sent them, its own first, as DER."""
    if sys.version_info >= (3, 13):
        return connection.get_unverified_chain()
    # The same is there in 3.11 and 3.12, but not public.
    sent = connection._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in sent]
