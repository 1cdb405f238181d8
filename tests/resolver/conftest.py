"""A resolver before a real name server, with zones for the ways in which domains take mail."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pfsmtp.resolver.cache import Cache
from pfsmtp.resolver.exchange import Exchange
from pfsmtp.resolver.hosts import Destination
from pfsmtp.resolver.lookup import Lookup
from pfsmtp.resolver.ourselves import Ourselves
from pfsmtp.resolver.route import Resolver
from pfsmtp.resolver.servers import NameServer as ServerAddress
from pfsmtp.resolver.servers import fixed
from tests.nameserver import NameServer

QUICK = (0.3, 0.6)  # seconds a name server has, for tests in which some are silent

ZONES = {
    "example.org": """
@ MX 10 mx1
@ MX 20 mx2
mx1 AAAA 2001:db8::1
mx1 A 192.0.2.1
mx2 AAAA 2001:db8::2
mx2 A 192.0.2.2
equals MX 10 mx1
equals MX 10 mx2
bare AAAA 2001:db8::3
bare A 192.0.2.3
nothing TXT "no address, no exchanger"
alias CNAME @
dangling CNAME missing
abroad CNAME example.net.
nowhere CNAME mail.not-served.example.
loop-a CNAME loop-b.example.net.
null MX 0 .
half-null MX 0 .
half-null MX 10 mx1
mx-alias MX 10 mail-alias
mail-alias CNAME mx1
mx-missing MX 10 missing
mx-missing MX 20 mx2
all-missing MX 10 missing
all-missing MX 20 nothing
mx-literal MX 10 192.0.2.1.
itself MX 10 itself
*.wild MX 10 mx2
brief 0 MX 10 mx1
ours-second MX 10 mx1
ours-second MX 20 US.example.org.
ours-second MX 20 mx2
ours-second MX 30 mx2
ours-first MX 10 us
ours-first MX 20 mx1
us A 192.0.2.99
by-address MX 10 mx1
by-address MX 20 same-address
by-address MX 20 mx2
same-address A 192.0.2.99
loopback MX 10 here
here A 127.0.0.1
here AAAA ::1
unspecified MX 10 zero
zero A 0.0.0.0
mapped MX 10 mapped-host
mapped-host AAAA ::ffff:127.0.0.1
multicast A 224.0.0.1
xn--strae-oqa MX 10 mx1
large MX 10 large-host
large MX 20 mx2
large-host A 192.0.2.11
large-host A 192.0.2.12
large-host A 192.0.2.13
large-host A 192.0.2.14
large-host A 192.0.2.15
large-host A 192.0.2.16
""",
    "example.net": """
@ MX 10 mx
mx A 192.0.2.50
loop-b CNAME loop-a.example.org.
""",
    "many.example": "\n".join(
        f"@ MX {number} h{number}\nh{number} A 198.51.100.{number % 250}"
        for number in range(1, 1001)
    ),
}


@pytest.fixture(scope="session")
def name_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    directory: Path = tmp_path_factory.mktemp("knot")
    with NameServer(directory, ZONES) as server:
        yield server


def resolver_asking(
    addresses: Sequence[str], *, own: Ourselves | None = None, seed: int = 1
) -> Resolver:
    """A whole resolver before these name servers, quick to give up on silent ones."""
    servers = fixed([ServerAddress.parse(address) for address in addresses])
    exchange = Exchange(servers, time.monotonic, tries=QUICK)
    cache = Cache(Lookup(exchange, time.monotonic), time.monotonic)
    source = random.Random(seed)
    return Resolver(cache, time.monotonic, source=source, own=own or Ourselves())


def soon() -> float:
    return time.monotonic() + 10


def addresses(destinations: Iterator[Destination]) -> list[str]:
    return [destination.address for destination in destinations]
