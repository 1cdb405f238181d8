"""Which hosts a domain names for its mail, in the order to try them (RFC 5321 §5.1).

What it does: MX records into groups of equal preference, shuffled; the domain itself where there
are none; the null MX (RFC 7505); and nothing at or behind our own name.

What it leaves to others: looking records up, and the addresses of the hosts.  It fails with
DeliveryFailure: there is no such domain, it takes no mail, its mail is for us to take, or the DNS
does not say.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import dns.name
from dns.rdtypes.ANY.MX import MX

from pfsmtp.resolver.lookup import Answer, Outcome
from pfsmtp.smtp.errors import PermanentFailure, TransientFailure

_MAX_GROUPS = 10
_MAX_HOSTS = 5  # of one preference: as many as an attempt can make use of


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One MX record; `host` is "" where it names the root (RFC 7505)."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Exchangers:
    """The hosts of a domain in groups of equal preference; `implied` when there is no MX."""

    domain: str
    groups: tuple[tuple[str, ...], ...]
    implied: bool = False


def exchangers_of(
    domain: str, answer: Answer, *, own_names: frozenset[str], source: random.Random
) -> Exchangers:
    """Return the hosts for `domain`, given the answer to the question for its MX."""
    records = _records(domain, answer)
    implied = not records
    if implied:
        # RFC 5321 §5.1: a domain without MX is its own exchanger.
        records = [Exchanger(0, domain)]
    elif all(record.host == "" for record in records):
        # RFC 7505 §3: a null MX says that the domain takes no mail.
        raise PermanentFailure(1, 10, f"{domain} accepts no mail (null MX)")
    records = _better_than_ours(records, own_names)
    if not records:
        raise loop_failure(domain)
    return Exchangers(domain, _groups(records, source), implied)


def loop_failure(domain: str) -> PermanentFailure:
    return PermanentFailure(4, 6, f"mail for {domain} loops back to us")


def look_up_failure(domain: str, reason: str) -> TransientFailure:
    return TransientFailure(4, 3, f"DNS look-up for {domain} failed: {reason}")


def _records(domain: str, answer: Answer) -> list[Exchanger]:
    match answer.outcome:
        case Outcome.FAILED:
            raise look_up_failure(domain, answer.reason)
        case Outcome.NO_NAME:
            raise PermanentFailure(1, 2, f"domain {domain} does not exist")
        case _:
            return [_exchanger(record) for record in answer.records if isinstance(record, MX)]


def _exchanger(record: MX) -> Exchanger:
    if record.exchange == dns.name.root:
        return Exchanger(record.preference, "")
    return Exchanger(record.preference, record.exchange.to_text(omit_final_dot=True).lower())


def _better_than_ours(records: list[Exchanger], own_names: frozenset[str]) -> list[Exchanger]:
    """RFC 5321 §5.1: what is not strictly better than ourselves would send the mail in circles."""
    ours = [record.preference for record in records if record.host in own_names]
    if not ours:
        return records
    return [record for record in records if record.preference < min(ours)]


def _groups(records: Sequence[Exchanger], source: random.Random) -> tuple[tuple[str, ...], ...]:
    """Equals together, in random order so that the load is spread (RFC 5321 §5.1)."""
    groups = []
    named = sorted(
        ((record.preference, record.host) for record in records if record.host),
    )
    for _, equals in groupby(named, key=lambda record: record[0]):
        hosts = list(dict.fromkeys(host for _, host in equals))
        source.shuffle(hosts)
        groups.append(tuple(hosts[:_MAX_HOSTS]))
    return tuple(groups[:_MAX_GROUPS])
