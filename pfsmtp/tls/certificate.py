"""A certificate and its key, loaded and examined.

What a certificate says of itself (names, dates) is learnt from a handshake with ourselves in
memory: that costs 1.5 ms, where importing `cryptography` costs 20 ms and some MB in every worker,
and it shows that the pair works before a client finds out that it does not.

Every failure is a `TLSError`, whose text is for the operator: it names the file, what is wrong with
it, and the remedy. Dates are no failure: a certificate that has expired still encrypts, and most
senders of mail do not look.
"""

from __future__ import annotations

import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pfsmtp.config import CertificatePair

_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME, which `ssl` does not name


class TLSError(Exception):
    """A certificate or key cannot be used; the text names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is written in the certificate of a pair. Names are in lower case, times in Unix
    seconds."""

    names: tuple[str, ...]
    valid_from: float
    expires: float


def load_pair(context: ssl.SSLContext, pair: CertificatePair) -> Certificate:
    """Give a server's context a certificate with its chain and key, and say what is in it.

    Raises TLSError.
    """
    _require(_CERTIFICATE, pair.certificate, "certificate")
    _require(_KEY, pair.key, "private key")
    try:
        context.load_cert_chain(pair.certificate, pair.key, password=_no_password)
    except _Encrypted:
        raise TLSError(
            f"{pair.key}: the private key is encrypted, and nobody is there to type its password; "
            f"store it without (`openssl pkey -in {pair.key} -out …`), readable for the server only"
        ) from None
    except ssl.SSLError as error:
        raise TLSError(_explain(pair, error)) from error
    return _examine(context, pair.certificate)


def _require(pem: re.Pattern[bytes], path: Path, what: str) -> None:
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        raise TLSError(
            f"{path}: the {what} file does not exist; "
            "correct the path in [tls], or put the file there"
        ) from None
    except OSError as error:
        raise TLSError(
            f"{path}: the {what} file cannot be read ({error.strerror}); "
            "make it a file that the server's user may read"
        ) from error
    if not pem.search(octets):
        raise TLSError(
            f"{path}: there is no {what} in PEM form in this file; "
            f"name the file that has one (certificate and key may have been swapped)"
        )


class _Encrypted(Exception):
    """OpenSSL asks for a password; without this it would ask on the terminal."""


def _no_password() -> NoReturn:
    raise _Encrypted


def _explain(pair: CertificatePair, error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason == "KEY_VALUES_MISMATCH":
        return (
            f"{pair.key}: this is not the key of the first certificate in {pair.certificate}; "
            "name the key that belongs to it, and put the server's own certificate "
            "before those that lead to its issuer"
        )
    if reason.endswith(("KEY_TOO_SMALL", "MD_TOO_WEAK")):
        return (
            f"{pair.certificate}: the key or the digest is too weak for today's clients "
            f"({reason}); get a certificate with an ECDSA P-256 key, or RSA of 2048 bits"
        )
    return (
        f"{pair.certificate} or {pair.key} is damaged, or of a kind that OpenSSL does not know "
        f"({error}); put the files there again"
    )


def _examine(server: ssl.SSLContext, certificate: Path) -> Certificate:
    """Read the first certificate in a file as a client sees it, in a handshake with ourselves."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = server.wrap_bio(to_server, to_client, server_side=True)
    far = client.wrap_bio(to_client, to_server)
    try:
        for side in (far, near, far, near):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLError as error:
        raise TLSError(
            f"{certificate}: TLS does not work with this certificate ({_words(error)}); "
            "get one that was issued for a TLS server"
        ) from error
    return _read(far.getpeercert())


def _words(error: ssl.SSLError) -> str:
    return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)


def _read(fields: Any) -> Certificate:
    """Take what matters from the dictionary that `getpeercert` gives."""
    names = [name for kind, name in fields.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        # RFC 6125 §6.4.4: the common name counts only where the certificate names no host
        # otherwise.
        names = [text for part in fields["subject"] for kind, text in part if kind == "commonName"]
    return Certificate(
        names=tuple(name.lower() for name in names),
        valid_from=ssl.cert_time_to_seconds(fields["notBefore"]),
        expires=ssl.cert_time_to_seconds(fields["notAfter"]),
    )
