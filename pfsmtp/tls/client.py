"""The contexts of the outbound side.

Opportunistic (RFC 7435): nothing is verified, since the name that an MX record gives is no surer
than the certificate. Everything that OpenSSL still speaks is accepted, down to TLS 1.0, weak keys
and RSA key exchange: what fails here is sent in clear, which protects against nobody. RFC 8996
deprecates TLS 1.0 for what could be encrypted better; the peers of a better TLS still get it, since
a downgrade is detected (RFC 8446 §4.1.3), and who can tamper can strip STARTTLS as well.

Verified, for a smart host that is given a password: TLS 1.2 or later, a certificate for the host's
name (RFC 8314 §4.1, RFC 6125) of the system's authorities, or of those that the operator names
instead; anything else ends the handshake.
"""

from __future__ import annotations

import ssl

from pfsmtp.tls.authorities import trust

WHATEVER_ENCRYPTS = "HIGH:!aNULL:!PSK:!SRP:!DSS:!ARIA:!CAMELLIA:!AESCCM:@SECLEVEL=0"


def client_context(*, verify: bool, authorities: bytes | None = None) -> ssl.SSLContext:
    """Make the context of all connections of one kind; costs some 10 ms with `verify`.

    `authorities` are as `read_authorities` returns them; None for the system's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if verify:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if authorities is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            trust(context, authorities)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers(WHATEVER_ENCRYPTS)
    return context
