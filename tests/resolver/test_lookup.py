"""Answers found through CNAMEs, and for how long they may be kept."""

from __future__ import annotations

from collections.abc import Callable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from pfsmtp.resolver.exchange import Question, Unanswered
from pfsmtp.resolver.lookup import Answer, Lookup, Outcome

SOA = "ns.example.org. hostmaster.example.org. 1 3600 600 86400 60"


class Servers:
    """In place of `Exchange`: answers from a table of names to replies, in the clock's no time."""

    def __init__(self, replies: dict[str, Callable[[dns.message.Message], None]]) -> None:
        self.replies = replies
        self.asked: list[str] = []

    def ask(self, question: Question, deadline: float) -> dns.message.QueryMessage:
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append(name)
        reply = dns.message.make_response(dns.message.make_query(*question))
        reply.flags |= dns.flags.AA
        self.replies[name](reply)
        received = dns.message.from_wire(reply.to_wire(max_size=65535))
        assert isinstance(received, dns.message.QueryMessage)
        return received


def records(*lines: str) -> Callable[[dns.message.Message], None]:
    def fill(reply: dns.message.Message) -> None:
        for line in lines:
            owner, ttl, rdtype, data = line.split(None, 3)
            rrset = dns.rrset.from_text(owner, int(ttl), "IN", rdtype, data)
            section = reply.authority if rdtype == "SOA" else reply.answer
            section.append(rrset)

    return fill


def no_such_name(*lines: str) -> Callable[[dns.message.Message], None]:
    def fill(reply: dns.message.Message) -> None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
        records(*lines)(reply)

    return fill


def find(replies: dict[str, Callable[[dns.message.Message], None]], name: str = "a.org") -> Answer:
    question = Question(dns.name.from_text(name), dns.rdatatype.A)
    return Lookup(Servers(replies), lambda: 0.0).find(question, 100.0)


def texts(answer: Answer) -> list[str]:
    return [record.to_text() for record in answer.records]


def test_records_are_found_with_their_ttl() -> None:
    answer = find({"a.org": records("a.org. 300 A 192.0.2.1")})
    assert (answer.outcome, texts(answer), answer.ttl) == (Outcome.FOUND, ["192.0.2.1"], 300)


def test_cname_within_the_answer_is_followed_and_shortens_the_ttl() -> None:
    answer = find({"a.org": records("a.org. 20 CNAME b.org.", "b.org. 300 A 192.0.2.1")})
    assert (answer.outcome, texts(answer), answer.ttl) == (Outcome.FOUND, ["192.0.2.1"], 20)


def test_cname_to_another_zone_is_asked_for() -> None:
    answer = find(
        {
            "a.org": records("a.org. 20 CNAME b.org."),
            "b.org": records("b.org. 300 A 192.0.2.1"),
        }
    )
    assert (answer.outcome, texts(answer), answer.ttl) == (Outcome.FOUND, ["192.0.2.1"], 20)


def test_cname_to_no_name_is_no_name() -> None:
    answer = find({"a.org": no_such_name("a.org. 20 CNAME b.org.", f"org. 300 SOA {SOA}")})
    assert (answer.outcome, answer.ttl) == (Outcome.NO_NAME, 20)


def test_cname_to_a_name_without_records_is_no_data() -> None:
    answer = find({"a.org": records("a.org. 300 CNAME b.org.", f"b.org. 300 SOA {SOA}")})
    assert (answer.outcome, answer.ttl) == (Outcome.NO_DATA, 60)


def test_cname_loop_fails() -> None:
    answer = find(
        {"a.org": records("a.org. 20 CNAME b.org."), "b.org": records("b.org. 20 CNAME a.org.")}
    )
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "too many CNAMEs")


def test_cname_loop_within_an_answer_fails() -> None:
    answer = find({"a.org": records("a.org. 20 CNAME b.org.", "b.org. 20 CNAME a.org.")})
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "too many CNAMEs")


def test_long_chain_of_cnames_costs_few_queries() -> None:
    servers = Servers(
        {f"n{n}.org": records(f"n{n}.org. 20 CNAME n{n + 1}.org.") for n in range(100)}
    )
    question = Question(dns.name.from_text("n0.org"), dns.rdatatype.A)
    assert Lookup(servers, lambda: 0.0).find(question, 100.0).outcome is Outcome.FAILED
    assert len(servers.asked) == 8


def test_rfc2308_5_negative_ttl_is_the_least_of_soa_ttl_and_minimum() -> None:
    assert find({"a.org": no_such_name(f"org. 300 SOA {SOA}")}).ttl == 60
    assert find({"a.org": records(f"org. 30 SOA {SOA}")}).ttl == 30


def test_negative_answer_without_soa_is_kept_for_a_moment() -> None:
    assert find({"a.org": no_such_name()}).ttl == 5
    assert find({"a.org": records()}).ttl == 5


def test_answer_about_something_else_fails() -> None:
    answer = find({"a.org": records("b.org. 300 A 192.0.2.1")})
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "malformed answer")


def test_records_in_an_answer_of_no_such_name_fail() -> None:
    assert find({"a.org": no_such_name("a.org. 300 A 192.0.2.1")}).outcome is Outcome.FAILED


def test_best_exchangers_of_too_many_are_kept() -> None:
    exchangers = [f"{1000 - number} h{number}.org." for number in range(1000)]

    def fill(reply: dns.message.Message) -> None:
        reply.answer.append(dns.rrset.from_text("a.org.", 300, "IN", "MX", *exchangers))

    question = Question(dns.name.from_text("a.org"), dns.rdatatype.MX)
    answer = Lookup(Servers({"a.org": fill}), lambda: 0.0).find(question, 100.0)
    assert texts(answer)[0] == "1 h999.org."
    assert len(answer.records) == 100


class Mute:
    def __init__(self) -> None:
        self.deadline = 0.0

    def ask(self, question: Question, deadline: float) -> dns.message.QueryMessage:
        self.deadline = deadline
        raise Unanswered("timeout")


QUESTION = Question(dns.name.from_text("a.org"), dns.rdatatype.A)


def test_patience_ends_before_a_far_deadline() -> None:
    mute = Mute()
    Lookup(mute, lambda: 50.0, patience=10.0).find(QUESTION, 1000.0)
    assert mute.deadline == 60.0


def test_rfc9520_3_2_failure_is_kept_for_a_moment() -> None:
    answer = Lookup(Mute(), lambda: 50.0, patience=10.0).find(QUESTION, 1000.0)
    assert (answer.outcome, answer.reason, answer.ttl) == (Outcome.FAILED, "timeout", 5.0)


def test_failure_for_want_of_time_is_not_kept() -> None:
    answer = Lookup(Mute(), lambda: 50.0, patience=10.0).find(QUESTION, 51.0)
    assert (answer.outcome, answer.ttl) == (Outcome.FAILED, 0.0)
