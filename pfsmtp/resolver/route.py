"""Where mail for a domain goes: hosts and addresses, in the order to try them.

What it does: the rules of RFC 5321 §5.1 about MX hosts and their addresses; at most five addresses,
those of less preferred hosts looked up only when they are asked for; never to ourselves.

What it leaves to others: connecting (what does not answer is followed by the next), and the
back-off of hosts that fail.

How it fails: `Resolver` raises PermanentFailure where the DNS says that mail cannot be delivered,
TransientFailure where it says nothing.  A route once given raises no more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dns.name
import dns.rdatatype

from pfsmtp.resolver.cache import Cache
from pfsmtp.resolver.exchange import Exchange, Question
from pfsmtp.resolver.exchangers import Exchangers, exchangers_of, look_up_failure, loop_failure
from pfsmtp.resolver.hosts import Destination, Finder, Host, alternate, find_host
from pfsmtp.resolver.lookup import Lookup
from pfsmtp.resolver.ourselves import Ourselves
from pfsmtp.resolver.servers import NameServer, SystemServers, fixed
from pfsmtp.smtp.domain import a_labels, literal_address
from pfsmtp.smtp.errors import PermanentFailure, TransientFailure

_MAX_ADDRESSES = 5  # in one attempt
_PATIENCE = 30.0  # seconds for all look-ups of the hosts of one preference


@dataclass(frozen=True, slots=True)
class _Step:
    """The addresses of hosts of one preference; `last` when nothing can come after them."""

    destinations: list[Destination]
    last: bool = True


class Route:
    """The addresses to try, in order; made by `Resolver`, for one attempt of one thread."""

    def __init__(self, steps: Iterator[_Step]) -> None:
        self._first = next(steps)
        self._rest = steps

    def destinations(self) -> Iterator[Destination]:
        """One to five, once; each of the later ones may take half a minute to look up."""
        left = _MAX_ADDRESSES
        step: _Step | None = self._first
        while step is not None:
            # Were all five of one preference, its back-up host would never be tried.
            share = left if step.last else max(1, left - 1)
            chosen = step.destinations[:share]
            yield from chosen
            left -= len(chosen)
            step = next(self._rest, None) if left else None


class Resolver:
    """Finds routes; shared by the threads of a process, and made after the fork."""

    def __init__(
        self,
        finder: Finder,
        clock: Callable[[], float],
        *,
        source: random.Random,
        own: Ourselves,
    ) -> None:
        self._finder = finder
        self._clock = clock
        self._source = source
        self._own = own

    @classmethod
    def asking(
        cls,
        name_servers: Sequence[NameServer],
        clock: Callable[[], float],
        *,
        source: random.Random,
        own: Ourselves,
    ) -> Resolver:
        """Ask these name servers, or the system's if there are none, with a cache in between."""
        servers = fixed(name_servers) if name_servers else SystemServers()
        cache = Cache(Lookup(Exchange(servers, clock), clock), clock)
        return cls(cache, clock, source=source, own=own)

    def route(self, domain: str, deadline: float) -> Route:
        """Return where mail for `domain` goes: a name, its U-labels as they are, or a literal.

        Raises DeliveryFailure; `deadline` is in the clock's seconds.
        """
        if domain.startswith("["):
            return self._literal_route(domain, self._own)
        name = _valid_name(domain)
        answer = self._finder.find(Question(dns.name.from_text(name), dns.rdatatype.MX), deadline)
        exchangers = exchangers_of(name, answer, own_names=self._own.names, source=self._source)
        return Route(self._steps(exchangers, deadline, own=self._own))

    def host_route(self, host: str, deadline: float) -> Route:
        """Return the addresses of a host the operator has named, whatever they are, without MX.

        Raises TransientFailure: a smart host that cannot be found is no fault of the message.
        """
        anybody = Ourselves(loopback=True)
        try:
            if host.startswith("["):
                return self._literal_route(host, anybody)
            name = _valid_name(host)
            if name == "localhost":
                # RFC 6761 §6.3: it is this machine, whatever a name server says.
                return Route(
                    iter([_Step([Destination(name, "::1"), Destination(name, "127.0.0.1")])])
                )
            alone = Exchangers(name, ((name,),), implied=True)
            return Route(self._steps(alone, deadline, own=anybody))
        except PermanentFailure as failure:
            raise TransientFailure(
                3, 5, f"the relay host cannot be found: {failure.text}"
            ) from failure

    def _literal_route(self, literal: str, own: Ourselves) -> Route:
        try:
            address = literal_address(literal)
        except ValueError as failure:
            raise PermanentFailure(1, 2, f"{literal!a} is no address literal") from failure
        if own.have(address):
            raise loop_failure(literal)
        return Route(iter([_Step([Destination(literal, str(address))])]))

    def _steps(self, exchangers: Exchangers, deadline: float, *, own: Ourselves) -> Iterator[_Step]:
        """Yield what can be reached, preference by preference; raise if that is nothing at all."""
        reasons: list[str] = []
        found = ours = False
        for number, names in enumerate(exchangers.groups, 1):
            enough = self._clock() + _PATIENCE
            hosts = self._hosts(names, enough if found else min(enough, deadline))
            # RFC 5321 §5.1: if we are one of them, neither the others nor any worse ones.
            ours = any(own.have(address) for host in hosts for address in host.ipv6 + host.ipv4)
            if ours:
                break
            reasons += [host.reason for host in hosts if host.reason]
            destinations = alternate(hosts)
            if destinations:
                found = True
                yield _Step(destinations, last=number == len(exchangers.groups))
        if found:
            return
        if reasons:
            raise look_up_failure(exchangers.domain, reasons[0])
        if ours:
            raise loop_failure(exchangers.domain)
        raise _no_address(exchangers)

    def _hosts(self, names: Sequence[str], deadline: float) -> list[Host]:
        return [
            find_host(name, self._finder, source=self._source, deadline=deadline) for name in names
        ]


def _valid_name(domain: str) -> str:
    try:
        return a_labels(domain)
    except ValueError as failure:
        raise PermanentFailure(1, 2, f"{domain!a} is no domain name") from failure


def _no_address(exchangers: Exchangers) -> PermanentFailure:
    domain = exchangers.domain
    if exchangers.implied:
        return PermanentFailure(1, 2, f"{domain} has neither a mail exchanger nor an address")
    return PermanentFailure(4, 4, f"the mail exchangers of {domain} have no address")
