"""Answers kept for as long as they may be, shared by the threads of a process.

What it does: keeps answers within their TTL, the most recently used ones up to a number of records
(an answer without any counts as one), and lets one thread ask while the others that want the same
wait for it: a thousand messages for one domain cost one query.

What it leaves to others: finding the answers, and between processes nothing is shared.
An answer of TTL 0 goes to those who were waiting for it, and to nobody after (RFC 1035 §3.2.1).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock
from typing import Protocol

from pfsmtp.resolver.exchange import Question
from pfsmtp.resolver.lookup import Answer, Outcome

_MAX_RECORDS = 20_000
_MIN_TTL = 5.0
_MAX_TTL = 86_400.0
_MAX_NEGATIVE_TTL = (
    900.0  # a bounce is final, and a domain may be new: less than RFC 2308 §5 allows
)


class Finder(Protocol):
    """What `Lookup` is to this module."""

    def find(self, question: Question, deadline: float) -> Answer: ...


@dataclass(slots=True)
class _Kept:
    answer: Answer
    until: float

    @property
    def weight(self) -> int:
        return max(1, len(self.answer.records))


class _Flight:
    """A question that somebody is asking right now; `answer` stays None if that broke off."""

    __slots__ = ("answer", "landed")

    def __init__(self) -> None:
        self.landed = Event()
        self.answer: Answer | None = None


class Cache:
    """Finds answers as its finder does, but asks no more than it must."""

    def __init__(
        self, finder: Finder, clock: Callable[[], float], *, max_records: int = _MAX_RECORDS
    ) -> None:
        self._finder = finder
        self._clock = clock
        self._max_records = max_records
        self._lock = Lock()
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._records = 0
        self._flights: dict[Question, _Flight] = {}

    def find(self, question: Question, deadline: float) -> Answer:
        """Answer from what is kept, or ask, or wait for who is asking; FAILED at the deadline."""
        while True:
            with self._lock:
                answer = self._get(question)
                if answer is not None:
                    return answer
                flight = self._flights.get(question)
                mine = flight is None
                if flight is None:
                    flight = self._flights[question] = _Flight()
            if mine:
                return self._ask(question, deadline, flight=flight)
            flight.landed.wait(max(0.0, deadline - self._clock()))
            answer = flight.answer
            if answer is not None and not _broken_off(answer):
                return answer
            if self._clock() >= deadline:
                return Answer(Outcome.FAILED, reason="timeout")

    def _ask(self, question: Question, deadline: float, *, flight: _Flight) -> Answer:
        try:
            flight.answer = self._finder.find(question, deadline)
            return flight.answer
        finally:
            with self._lock:
                del self._flights[question]
                if flight.answer is not None:
                    self._keep(question, flight.answer)
            flight.landed.set()

    def _get(self, question: Question) -> Answer | None:
        kept = self._kept.get(question)
        if kept is None:
            return None
        if kept.until <= self._clock():
            self._drop(question)
            return None
        self._kept.move_to_end(question)
        return kept.answer

    def _keep(self, question: Question, answer: Answer) -> None:
        ttl = _bounded_ttl(answer)
        if ttl <= 0:
            return
        kept = self._kept[question] = _Kept(answer, self._clock() + ttl)
        self._records += kept.weight
        while self._records > self._max_records:
            self._drop(next(iter(self._kept)))

    def _drop(self, question: Question) -> None:
        self._records -= self._kept.pop(question).weight


def _bounded_ttl(answer: Answer) -> float:
    if answer.ttl <= 0:
        return 0.0
    longest = _MAX_TTL if answer.outcome is Outcome.FOUND else _MAX_NEGATIVE_TTL
    return min(max(answer.ttl, _MIN_TTL), longest)


def _broken_off(answer: Answer) -> bool:
    """Whether whoever asked had no time to learn anything."""
    return answer.outcome is Outcome.FAILED and answer.ttl <= 0
