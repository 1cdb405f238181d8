"""Who we are: what is not delivered to, lest mail goes in circles (RFC 5321 §5.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from pfsmtp.smtp.domain import Address, a_labels, parse_address

_THIS_HOST = IPv4Network("0.0.0.0/8")  # RFC 1122 §3.2.1.3; a connection to it goes to loopback


@dataclass(frozen=True, slots=True)
class Ourselves:
    """Names and addresses under which mail would come back to this very server.

    Loopback addresses are among them unless `loopback` says that others live there.
    """

    names: frozenset[str] = frozenset()
    addresses: frozenset[Address] = frozenset()
    loopback: bool = False

    @classmethod
    def known_as(
        cls, names: Iterable[str], addresses: Iterable[str] = (), *, loopback: bool = False
    ) -> Ourselves:
        """Raises ValueError for what is neither a name nor an address."""
        return cls(
            frozenset(a_labels(name) for name in names),
            frozenset(parse_address(address) for address in addresses),
            loopback,
        )

    def have(self, address: Address) -> bool:
        if address in self.addresses:
            return True
        return not self.loopback and (
            address.is_loopback or address.is_unspecified or address in _THIS_HOST
        )
