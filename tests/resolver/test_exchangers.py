"""The rules about MX records, on answers made by hand."""

from __future__ import annotations

import random

import dns.rdata
import pytest

from pfsmtp.resolver.exchangers import Exchangers, exchangers_of
from pfsmtp.resolver.lookup import Answer, Outcome
from pfsmtp.smtp.errors import PermanentFailure, TransientFailure


def mx(*records: str) -> Answer:
    rdata = tuple(dns.rdata.from_text("IN", "MX", record) for record in records)
    return Answer(Outcome.FOUND if rdata else Outcome.NO_DATA, rdata, 300.0)


def exchangers(answer: Answer, own: frozenset[str] = frozenset(), seed: int = 1) -> Exchangers:
    return exchangers_of("example.org", answer, own_names=own, source=random.Random(seed))


def test_rfc5321_5_1_hosts_are_ordered_by_preference() -> None:
    found = exchangers(mx("20 b.example.", "10 a.example.", "65535 c.example."))
    assert found.groups == (("a.example",), ("b.example",), ("c.example",))


def test_rfc5321_5_1_equals_are_shuffled() -> None:
    answer = mx("10 a.example.", "10 b.example.", "10 c.example.")
    orders = {exchangers(answer, seed=seed).groups for seed in range(50)}
    assert len(orders) == 6


def test_host_named_twice_is_tried_once_in_its_group() -> None:
    found = exchangers(mx("10 a.example.", "10 A.example."))
    assert found.groups == (("a.example",),)


def test_rfc5321_5_1_domain_without_exchanger_is_its_own() -> None:
    assert exchangers(mx()) == Exchangers("example.org", (("example.org",),), implied=True)


def test_rfc7505_3_null_mx_is_final() -> None:
    with pytest.raises(PermanentFailure) as caught:
        exchangers(mx("0 ."))
    assert str(caught.value.status) == "5.1.10"


def test_null_mx_among_others_is_passed_over() -> None:
    assert exchangers(mx("0 .", "10 a.example.")).groups == (("a.example",),)


def test_no_such_domain_is_final() -> None:
    with pytest.raises(PermanentFailure) as caught:
        exchangers(Answer(Outcome.NO_NAME))
    assert str(caught.value.status) == "5.1.2"


def test_failure_of_the_dns_is_for_now() -> None:
    with pytest.raises(TransientFailure, match="SERVFAIL") as caught:
        exchangers(Answer(Outcome.FAILED, reason="SERVFAIL"))
    assert str(caught.value.status) == "4.4.3"


def test_rfc5321_5_1_equal_and_worse_than_ourselves_are_dropped() -> None:
    answer = mx("10 a.example.", "20 US.example.", "20 b.example.", "30 c.example.")
    assert exchangers(answer, frozenset({"us.example"})).groups == (("a.example",),)


@pytest.mark.parametrize("answer", [mx("10 us.example.", "10 b.example."), mx("1 us.example.")])
def test_rfc5321_5_1_best_exchanger_is_ourselves(answer: Answer) -> None:
    with pytest.raises(PermanentFailure, match="loops back") as caught:
        exchangers(answer, frozenset({"us.example"}))
    assert str(caught.value.status) == "5.4.6"


def test_domain_without_exchanger_that_is_ourselves_loops() -> None:
    with pytest.raises(PermanentFailure, match="loops back"):
        exchangers(mx(), frozenset({"example.org"}))


def test_null_mx_is_not_taken_for_ourselves() -> None:
    assert exchangers(mx("0 .", "10 a.example."), frozenset({"b.example"})).groups


def test_no_more_than_an_attempt_can_use_is_returned() -> None:
    wide = exchangers(mx(*(f"10 h{number}.example." for number in range(100))))
    assert [len(group) for group in wide.groups] == [5]
    deep = exchangers(mx(*(f"{number} h{number}.example." for number in range(100))))
    assert len(deep.groups) == 10
    assert deep.groups[0] == ("h0.example",)
