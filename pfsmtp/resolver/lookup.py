"""What the DNS says of one name and type: found, none, no such name, or not known.

What it does: follows CNAMEs, within an answer and from answer to answer, and finds how long the
result may be kept.  What it leaves to others: asking (`exchange`), keeping (`cache`), and what the
records mean for mail (`route`).  It does not fail: a look-up that came to nothing is a result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.MX import MX

from pfsmtp.resolver.exchange import Question, Unanswered

_MAX_QUERIES = 8  # for one name: what CNAMEs may cost
_MAX_RECORDS = 100  # kept of one answer
_FAILURE_TTL = 5.0  # RFC 9520 §3.2: at least a second, at most 5 minutes
_NO_SOA_TTL = 5.0  # RFC 2308 §5 forbids it to servers that ask each other; nobody asks us


class Outcome(Enum):
    FOUND = auto()
    NO_DATA = auto()  # the name exists, without records of this type
    NO_NAME = auto()  # NXDOMAIN
    FAILED = auto()  # nothing is known


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome; `ttl` in seconds, 0 when it is good for this call only."""

    outcome: Outcome
    records: tuple[dns.rdata.Rdata, ...] = ()
    ttl: float = 0.0
    reason: str = ""  # of FAILED


class Asker(Protocol):
    """What `Exchange` is to this module."""

    def ask(self, question: Question, deadline: float) -> dns.message.QueryMessage: ...


class Lookup:
    """Finds answers; safe to share between threads."""

    def __init__(
        self, exchange: Asker, clock: Callable[[], float], *, patience: float = 10.0
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        self._patience = patience

    def find(self, question: Question, deadline: float) -> Answer:
        """Answer in `patience` seconds or by the deadline, whichever comes first."""
        enough = self._clock() + self._patience
        try:
            return self._follow(question, min(deadline, enough))
        except (Unanswered, dns.exception.DNSException) as failure:
            # Who had little time learnt little: the next one asks again.
            ttl = _FAILURE_TTL if enough <= deadline else 0.0
            return Answer(Outcome.FAILED, ttl=ttl, reason=_reason(failure))

    def _follow(self, question: Question, deadline: float) -> Answer:
        name, rdtype = question
        ttl = float("inf")
        seen: set[dns.name.Name] = set()
        while name not in seen and len(seen) < _MAX_QUERIES:
            seen.add(name)
            reply = self._exchange.ask(Question(name, rdtype), deadline)
            chain = reply.resolve_chaining()
            ttl = min(ttl, chain.minimum_ttl)
            if chain.answer is not None:
                return Answer(Outcome.FOUND, _best(chain.answer), ttl)
            negative_ttl = ttl if _has_soa(reply) else min(ttl, _NO_SOA_TTL)
            if reply.rcode() == dns.rcode.NXDOMAIN:
                return Answer(Outcome.NO_NAME, ttl=negative_ttl)
            if reply.answer and not chain.cnames:
                raise Unanswered("malformed answer")  # it speaks of something else
            if not chain.cnames or _has_soa(reply):
                return Answer(Outcome.NO_DATA, ttl=negative_ttl)
            name = chain.canonical_name
        raise dns.message.ChainTooLong


def _best(rrset: dns.rrset.RRset) -> tuple[dns.rdata.Rdata, ...]:
    """As many records as anybody will use, the most preferred ones."""
    return tuple(sorted(rrset, key=_preference)[:_MAX_RECORDS])


def _preference(record: dns.rdata.Rdata) -> int:
    return record.preference if isinstance(record, MX) else 0


def _has_soa(reply: dns.message.QueryMessage) -> bool:
    """Whether the reply says for how long there is nothing (RFC 2308 §5)."""
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in reply.authority)


def _reason(failure: Exception) -> str:
    if isinstance(failure, Unanswered):
        return str(failure)
    if isinstance(failure, dns.message.ChainTooLong):
        return "too many CNAMEs"
    return "malformed answer"
