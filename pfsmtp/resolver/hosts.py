"""The addresses of hosts, and in which order to try them.

What it does: AAAA and A of a host, shuffled; those of several hosts in turn.
What it leaves to others: which hosts.  It does not fail: a host that has no address, or none that
could be found out, is a host without addresses.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import dns.name
import dns.rdatatype
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from pfsmtp.resolver.exchange import Question
from pfsmtp.resolver.lookup import Answer, Outcome
from pfsmtp.smtp.domain import Address, parse_address


class Finder(Protocol):
    """Who answers questions: `Cache` or `Lookup`."""

    def find(self, question: Question, deadline: float) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Destination:
    """One address to connect to; `host` is as the MX named it, or an address literal."""

    host: str
    address: str

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


@dataclass(frozen=True, slots=True)
class Host:
    """A host and what is known of its addresses; `reason` says why some may be missing."""

    name: str
    ipv6: tuple[Address, ...] = ()
    ipv4: tuple[Address, ...] = ()
    reason: str = ""


def find_host(name: str, finder: Finder, *, source: random.Random, deadline: float) -> Host:
    """Look up both families of the host `name`, in ASCII and absolute."""
    owner = dns.name.from_text(name)
    answers = []
    for rdtype in (dns.rdatatype.AAAA, dns.rdatatype.A):
        answer = finder.find(Question(owner, rdtype), deadline)
        answers.append(answer)
        if answer.outcome is Outcome.NO_NAME:
            break
    addresses = [address for answer in answers for address in _usable(answer)]
    source.shuffle(addresses)
    return Host(
        name,
        tuple(address for address in addresses if address.version == 6),
        tuple(address for address in addresses if address.version == 4),
        next((answer.reason for answer in answers if answer.outcome is Outcome.FAILED), ""),
    )


def _usable(answer: Answer) -> Iterator[Address]:
    """The addresses that can be connected to."""
    for record in answer.records:
        if isinstance(record, A | AAAA):
            address = parse_address(record.address)
            if not address.is_multicast and str(address) != "255.255.255.255":
                yield address


def alternate(hosts: Sequence[Host]) -> list[Destination]:
    """Host after host, the families of each in turn, IPv6 first; then their second addresses.

    So a family that leads nowhere costs one attempt to connect, not all of them.
    """
    rounds = max((len(family) for host in hosts for family in (host.ipv6, host.ipv4)), default=0)
    return [
        Destination(host.name, str(family[number]))
        for number in range(rounds)
        for host in hosts
        for family in (host.ipv6, host.ipv4)
        if number < len(family)
    ]
