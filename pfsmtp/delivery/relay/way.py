"""Where mail goes and how it is protected: to the mail exchangers of each domain, or a smart host.

To exchangers TLS is preferred, and a certificate is not required to be good (RFC 7435). A smart
host is the operator's choice and may be told a password: TLS is required, and its certificate
verified. What is wrong with a smart host, or with how it is used, is the operator's to mend: it
never bounces mail.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from pfsmtp.resolver import Destination, Resolver
from pfsmtp.smtp.client import Credentials, TLSPolicy

_IMPLICIT_TLS = 465
_OPEN_TO_OTHERS = 0o077


class Router(Protocol):
    """Where mail for a domain goes; see `Resolver.route`. Raises DeliveryFailure."""

    def __call__(self, domain: str, deadline: float, /) -> Iterator[Destination]: ...


@dataclass(frozen=True, slots=True)
class Way:
    """How mail leaves."""

    route: Router
    port: int
    tls: TLSPolicy
    context: ssl.SSLContext
    credentials: Credentials | None = None
    smart_host: str | None = None  # to which all domains go

    @classmethod
    def to_exchangers(cls, resolver: Resolver, port: int, context: ssl.SSLContext) -> Way:
        """To the hosts that the DNS names; the context verifies nothing."""

        def route(domain: str, deadline: float) -> Iterator[Destination]:
            return resolver.route(domain, deadline).destinations()

        return cls(route, port, TLSPolicy.PREFERRED, context)

    @classmethod
    def to_smart_host(
        cls,
        resolver: Resolver,
        name: str,
        *,
        port: int,
        context: ssl.SSLContext,
        credentials: Credentials | None,
    ) -> Way:
        """All to one host, given by name or IP address; the context verifies it."""
        literal = _literal(name)

        def route(domain: str, deadline: float) -> Iterator[Destination]:
            return resolver.host_route(literal, deadline).destinations()

        tls = TLSPolicy.IMPLICIT if port == _IMPLICIT_TLS else TLSPolicy.REQUIRED
        return cls(route, port, tls, context, credentials, smart_host=name)


def _literal(name: str) -> str:
    """An IP address as an address literal; names as they are."""
    try:
        address = ip_address(name)
    except ValueError:
        return name
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


class CredentialsError(Exception):
    """The file with login and password is not usable; the text says why, and the remedy."""


def read_credentials(path: Path) -> Credentials:
    """Read `login:password` from a file that nobody else may read. Raises CredentialsError."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096)
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(f"{path} cannot be read: {error}") from error
    if mode & _OPEN_TO_OTHERS:
        raise CredentialsError(f"{path} can be read by others; remedy: chmod 600 {path}")
    login, colon, password = text.strip("\r\n").partition(":")
    if not (login and colon and password) or "\n" in password or "\0" in text:
        raise CredentialsError(f"{path} does not hold one line with login:password")
    return Credentials(login, password)
