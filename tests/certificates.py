"""Certificates for tests, as files: of all kinds that an operator might put there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pfsmtp.config import CertificatePair

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Usage = ExtendedKeyUsageOID


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority: its certificate and the key it signs with."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def ecdsa_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def key_pem(key: PrivateKey, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


def make_certificate(
    key: PrivateKey,
    names: Sequence[str],
    *,
    addresses: Sequence[str] = (),
    common_name: str = "",
    days: tuple[int, int] = (-1, 30),
    usage: x509.ObjectIdentifier = Usage.SERVER_AUTH,
    authority: bool = False,
    issuer: Issuer | None = None,
) -> x509.Certificate:
    """Make a certificate that is valid from and to these days, counted from now."""
    now = datetime.now(UTC)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    )
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if authority:
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    subjects = [
        *(x509.DNSName(name) for name in names),
        *(x509.IPAddress(ip_address(address)) for address in addresses),
    ]
    if subjects:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(subjects), critical=not common_name
        )
    return builder.sign(signer, hashes.SHA256())


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def make_issuer(common_name: str, issuer: Issuer | None = None) -> Issuer:
    key = ecdsa_key()
    certificate = make_certificate(key, [], common_name=common_name, authority=True, issuer=issuer)
    return Issuer(certificate, key)


def write_pair(directory: Path, stem: str, *, chain: bytes, key: bytes) -> CertificatePair:
    pair = CertificatePair(certificate=directory / f"{stem}.pem", key=directory / f"{stem}.key")
    pair.certificate.write_bytes(chain)
    pair.key.write_bytes(key)
    pair.key.chmod(0o600)
    return pair


def make_pair(
    directory: Path,
    stem: str,
    names: Sequence[str],
    *,
    addresses: Sequence[str] = (),
    common_name: str = "",
    days: tuple[int, int] = (-1, 30),
    key: PrivateKey | None = None,
    password: bytes | None = None,
    usage: x509.ObjectIdentifier = Usage.SERVER_AUTH,
    chain: Sequence[Issuer] = (),
) -> CertificatePair:
    """Make a certificate and its key, as files, signed by the first of the chain or by itself."""
    key = key or ecdsa_key()
    own = make_certificate(
        key,
        names,
        addresses=addresses,
        common_name=common_name,
        days=days,
        usage=usage,
        issuer=chain[0] if chain else None,
    )
    pem = own.public_bytes(serialization.Encoding.PEM) + b"".join(issuer.pem for issuer in chain)
    return write_pair(directory, stem, chain=pem, key=key_pem(key, password))
