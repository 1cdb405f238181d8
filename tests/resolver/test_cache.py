"""The cache with a clock passed in, and threads that want the same at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dns.name
import dns.rdata
import dns.rdatatype
import pytest

from pfsmtp.resolver.cache import Cache
from pfsmtp.resolver.exchange import Question
from pfsmtp.resolver.lookup import Answer, Outcome


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Finder:
    """Gives one answer, and counts who asks."""

    def __init__(self, answer: Answer | Callable[[], Answer]) -> None:
        self.answer = answer
        self.asked: list[Question] = []

    def find(self, question: Question, deadline: float) -> Answer:
        self.asked.append(question)
        return self.answer if isinstance(self.answer, Answer) else self.answer()


RECORD = dns.rdata.from_text("IN", "A", "192.0.2.1")
FAR = 1e7


def question(name: str = "example.org") -> Question:
    return Question(dns.name.from_text(name), dns.rdatatype.A)


def found(ttl: float, records: int = 1) -> Answer:
    return Answer(Outcome.FOUND, (RECORD,) * records, ttl)


def asked_after(answer: Answer, seconds: float) -> int:
    """How often the finder is asked by two calls with `seconds` between them."""
    clock, finder = Clock(), Finder(answer)
    cache = Cache(finder, clock)
    assert cache.find(question(), FAR) == answer
    clock.now += seconds
    assert cache.find(question(), FAR) == answer
    return len(finder.asked)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (found(300), 300),
        (found(1), 5),
        (found(10**6), 86400),
        (Answer(Outcome.NO_DATA, ttl=60), 60),
        (Answer(Outcome.NO_NAME, ttl=10**6), 900),
        (Answer(Outcome.FAILED, ttl=5), 5),
    ],
)
def test_answer_is_kept_for_its_ttl_within_bounds(answer: Answer, kept: float) -> None:
    assert asked_after(answer, kept - 0.1) == 1
    assert asked_after(answer, kept + 0.1) == 2


@pytest.mark.parametrize("answer", [found(0), Answer(Outcome.NO_NAME), Answer(Outcome.FAILED)])
def test_answer_of_ttl_0_is_not_kept(answer: Answer) -> None:
    assert asked_after(answer, 0) == 2


def test_case_of_the_name_does_not_matter() -> None:
    finder = Finder(found(300))
    cache = Cache(finder, Clock())
    cache.find(question("example.org"), FAR)
    cache.find(question("EXAMPLE.org"), FAR)
    assert len(finder.asked) == 1


def test_types_are_kept_apart() -> None:
    finder = Finder(found(300))
    cache = Cache(finder, Clock())
    cache.find(question(), FAR)
    cache.find(Question(question().name, dns.rdatatype.AAAA), FAR)
    assert len(finder.asked) == 2


def test_number_of_records_is_bounded_and_the_oldest_go() -> None:
    finder = Finder(found(300, records=4))
    cache = Cache(finder, Clock(), max_records=10)
    for name in ("a", "b", "a", "c"):
        cache.find(question(name), FAR)
    assert len(finder.asked) == 3
    cache.find(question("a"), FAR)
    assert len(finder.asked) == 3
    cache.find(question("b"), FAR)
    assert len(finder.asked) == 4


def test_answers_without_records_are_bounded_as_well() -> None:
    finder = Finder(Answer(Outcome.NO_NAME, ttl=300))
    cache = Cache(finder, Clock(), max_records=10)
    for number in range(11):
        cache.find(question(f"h{number}"), FAR)
    cache.find(question("h0"), FAR)
    assert len(finder.asked) == 12


class Gate:
    """A finder that answers when the test says so."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked = 0
        self.entered = threading.Event()
        self.open = threading.Event()

    def find(self, question: Question, deadline: float) -> Answer:
        self.asked += 1
        self.entered.set()
        assert self.open.wait(10)
        return self.answer


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline


def test_threads_that_want_the_same_cost_one_query_even_at_ttl_0() -> None:
    gate = Gate(found(0))
    looks: list[None] = []

    def clock() -> float:
        looks.append(None)
        return time.monotonic()

    cache = Cache(gate, clock)
    with ThreadPoolExecutor(11) as pool:
        futures = [pool.submit(cache.find, question(), FAR) for _ in range(11)]
        until(lambda: len(looks) == 10)  # each looks at the clock for how long it may wait
        gate.open.set()
        assert [future.result(10) for future in futures] == [found(0)] * 11
    assert gate.asked == 1


def test_who_waits_gives_up_at_the_deadline() -> None:
    gate = Gate(found(300))
    cache = Cache(gate, time.monotonic)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.find, question(), time.monotonic() + 10)
        assert gate.entered.wait(10)
        answer = cache.find(question(), time.monotonic() + 0.05)
        gate.open.set()
        assert first.result(10) == found(300)
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "timeout")


def test_different_names_do_not_wait_for_each_other() -> None:
    gate = Gate(found(300))
    cache = Cache(gate, time.monotonic)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(cache.find, question(name), FAR) for name in ("a", "b")]
        until(lambda: gate.asked == 2)
        gate.open.set()
        for future in futures:
            future.result(10)


def test_failure_of_one_who_had_no_time_is_asked_again_by_who_has() -> None:
    gate = Gate(Answer(Outcome.FAILED, reason="timeout"))
    cache = Cache(gate, time.monotonic)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.find, question(), time.monotonic())
        assert gate.entered.wait(10)
        second = pool.submit(cache.find, question(), time.monotonic() + 10)
        gate.open.set()
        first.result(10)
        second.result(10)
    assert gate.asked == 2


def test_bug_in_the_finder_leaves_nobody_waiting() -> None:
    def stumble() -> Answer:
        raise RuntimeError("a bug")

    cache = Cache(Finder(stumble), Clock())
    for _ in range(2):
        with pytest.raises(RuntimeError):
            cache.find(question(), FAR)
