"""Verifies certificate chains with `cryptography`; imported only where that is needed.

Certificates are hostile: whatever is wrong with one is a verdict, never an exception.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

_END = b"-----END CERTIFICATE-----"


class Verifier:
    """Knows the authorities: those in a PEM text, or the system's."""

    def __init__(self, authorities: bytes | None) -> None:
        pem = _system_authorities() if authorities is None else authorities
        trusted = list(_certificates(pem))
        self._store = Store(trusted) if trusted else None

    def verdict(self, chain: Sequence[bytes], host: str, now: float) -> str:
        """Judge a chain, the host's own certificate first, as DER; `now` in Unix seconds."""
        try:
            own, *others = (x509.load_der_x509_certificate(der) for der in chain)
            moment = datetime.fromtimestamp(now, UTC)
            if own.not_valid_after_utc < moment:
                return "expired"
            if own.not_valid_before_utc > moment:
                return "not yet valid"
            if own.issuer == own.subject:
                return "self-signed"
            if not _is_for(own, host):
                return "for another name"
            return self._verify(own, others, subject=_subject(host), moment=moment)
        except Exception:
            # What a parser makes of hostile input is not for us to know in advance.
            return "unreadable"

    def _verify(
        self,
        own: x509.Certificate,
        others: list[x509.Certificate],
        *,
        subject: x509.DNSName | x509.IPAddress,
        moment: datetime,
    ) -> str:
        if self._store is None:
            return "of an unknown authority"
        verifier = PolicyBuilder().store(self._store).time(moment).build_server_verifier(subject)
        try:
            verifier.verify(own, others)
        except VerificationError:
            return "of an unknown authority"
        return "valid"


def _subject(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    subject = _subject(host)
    if isinstance(subject, x509.IPAddress):
        return subject.value in names.get_values_for_type(x509.IPAddress)
    spelt = host.lower()
    # RFC 6125 §6.4.3: the wildcard stands for one label, the first.
    either = (spelt, "*." + spelt.partition(".")[2])
    return any(name.lower() in either for name in names.get_values_for_type(x509.DNSName))


def _certificates(pem: bytes) -> Iterator[x509.Certificate]:
    """All certificates of a PEM text that can be read; others are of no use to anyone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in pem.split(_END)[:-1]:
            try:
                yield x509.load_pem_x509_certificate(text + _END)
            except ValueError:
                continue


def _system_authorities() -> bytes:
    """The certificates that OpenSSL would trust here: one file, or a directory of them."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return Path(paths.cafile).read_bytes()
    if paths.capath:
        # By the names that OpenSSL looks for: the hash of the subject, and a number.
        return b"\n".join(path.read_bytes() for path in Path(paths.capath).glob("*.[0-9]"))
    return b""
