"""TLS without sockets: two ends, and what passes between them."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ends:
    client: ssl.SSLObject
    server: ssl.SSLObject

    @property
    def shown(self) -> bytes:
        """The certificate that the server showed, as DER."""
        certificate = self.client.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


def anyone() -> ssl.SSLContext:
    """A client that takes whatever it is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(
    server: ssl.SSLContext,
    client: ssl.SSLContext | None = None,
    *,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> Ends:
    """Let a client shake hands with a server, and read what it is sent afterwards."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = server.wrap_bio(to_server, to_client, server_side=True)
    far = (client or anyone()).wrap_bio(to_client, to_server, server_hostname=name, session=session)
    for end in (far, near, far, near):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    with suppress(ssl.SSLWantReadError):
        far.read(1)
    return Ends(far, near)


def client_hello(name: str) -> bytes:
    """What a client says first, when it asks for a host by this name."""
    said = ssl.MemoryBIO()
    client = anyone().wrap_bio(ssl.MemoryBIO(), said, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()
