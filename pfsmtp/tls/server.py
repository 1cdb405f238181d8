"""The context that all connections of a server share, and the choice among certificates by name.

Policy: TLS 1.2 and later, with forward secrecy and authenticated encryption only (RFC 9325 §4.2),
no compression, no renegotiation, the server's order of ciphers.

Session tickets (TLS 1.3) are set to one, explicitly. Some large senders give up on servers whose
tickets come before the client has finished; OpenSSL sends them after it (RFC 8446 §4.6.1), as many
as it is told: by default two, which is one more than a sender that keeps one session for each
destination has use for. What a handshake costs the server (3.11, OpenSSL 3.0, in µs):

                          TLS 1.3 without   one ticket   two   resumed   TLS 1.2   resumed
    ECDSA P-256 key             139            154       181     145       120        37
    RSA key of 2048 bits        331            350       362     142       314        33

The key that tickets are encrypted with belongs to the context. So workers forked after it was made
resume each other's sessions (measured with `openssl s_client -sess_out` against one worker and
`-sess_in` against another, TLS 1.2 and 1.3, with and without SNI; a test holds it), and a reload,
which makes a new one, changes the key: a sender with an older ticket makes a full handshake.

SNI comes from the other side. A name that is in no certificate gets the first one (RFC 6066 §3
allows it; a sender that does not look at names is served, one that does will say so). A name that
is not ASCII never gets here: where there are several certificates, `ssl` ends that handshake, and
no more than that connection, and reports it, escaped, to `sys.unraisablehook`. Nothing here logs a
name.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pfsmtp.tls.certificate import Certificate, load_pair

if TYPE_CHECKING:
    from pfsmtp.config import CertificatePair
    from pfsmtp.log import Log

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; all those of TLS 1.3 are as good
TICKETS = 1
SOON = 7 * 86400.0  # seconds before a certificate expires when the log begins to say so


def server_context(
    certificates: Sequence[CertificatePair],
    log: Log,
    *,
    clock: Callable[[], float] = time.time,
) -> ssl.SSLContext:
    """Make the context that shows these certificates, the first of them unless SNI names another.

    Where two hold the same name, the earlier is shown. Certificates out of their dates and keys
    that others can read are logged. Raises TLSError.
    """
    by_name: dict[str, ssl.SSLContext] = {}
    contexts = []
    for pair in certificates:
        context = _new_context()
        certificate = load_pair(context, pair)
        _warn(pair, certificate, log=log, now=clock())
        contexts.append(context)
        for name in certificate.names:
            by_name.setdefault(name, context)
    first = contexts[0]
    if len(contexts) > 1:
        first.sni_callback = _chooser(by_name)
    return first


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    context.num_tickets = TICKETS
    return context


def _chooser(
    by_name: Mapping[str, ssl.SSLContext],
) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if not name:
            return
        name = name.lower()
        # RFC 6125 §6.4.3: the wildcard stands for one label, the first.
        context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if context is not None:
            connection.context = context

    return choose


def _warn(pair: CertificatePair, certificate: Certificate, *, log: Log, now: float) -> None:
    if certificate.expires <= now:
        log.event(
            "certificate-expired",
            file=str(pair.certificate),
            expired=_date(certificate.expires),
            remedy="put a new one there and send SIGHUP",
        )
    elif certificate.expires <= now + SOON:
        log.event(
            "certificate-expires-soon",
            file=str(pair.certificate),
            expires=_date(certificate.expires),
            remedy="put a new one there and send SIGHUP",
        )
    if certificate.valid_from > now:
        log.event(
            "certificate-not-yet-valid",
            file=str(pair.certificate),
            valid_from=_date(certificate.valid_from),
            remedy="look at the clock of this machine",
        )
    if pair.key.stat().st_mode & 0o007:
        log.event(
            "key-open-to-others",
            file=str(pair.key),
            remedy=f"chmod o= {pair.key}",
        )


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
