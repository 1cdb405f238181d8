"""In which order the addresses of hosts are tried."""

from __future__ import annotations

import random
import socket

import dns.rdata
import dns.rdatatype

from pfsmtp.resolver.exchange import Question
from pfsmtp.resolver.hosts import Destination, Host, alternate, find_host
from pfsmtp.resolver.lookup import Answer, Outcome
from pfsmtp.smtp.domain import Address, parse_address


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(parse_address(text) for text in texts)


def order(*hosts: Host) -> list[str]:
    return [destination.address for destination in alternate(hosts)]


def test_families_take_turns_ipv6_first() -> None:
    host = Host("a", addresses("::a1", "::a2"), addresses("192.0.2.1", "192.0.2.2"))
    assert order(host) == ["::a1", "192.0.2.1", "::a2", "192.0.2.2"]


def test_every_host_is_tried_before_second_addresses() -> None:
    one = Host("a", addresses("::a1", "::a2"), addresses("192.0.2.1"))
    two = Host("b", (), addresses("192.0.2.3", "192.0.2.4", "192.0.2.5"))
    assert order(one, two) == [
        *("::a1", "192.0.2.1", "192.0.2.3"),
        *("::a2", "192.0.2.4", "192.0.2.5"),
    ]


def test_hosts_without_addresses_are_nowhere() -> None:
    assert order(Host("a")) == []
    assert order() == []


def test_destination_knows_its_family() -> None:
    assert Destination("a", "::1").family is socket.AF_INET6
    assert Destination("a", "127.0.0.1").family is socket.AF_INET


class Table:
    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def find(self, question: Question, deadline: float) -> Answer:
        rdtype = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(rdtype)
        return self.answers.get(rdtype, Answer(Outcome.NO_DATA))


def found(rdtype: str, *texts: str) -> Answer:
    return Answer(Outcome.FOUND, tuple(dns.rdata.from_text("IN", rdtype, text) for text in texts))


def find(table: Table, seed: int = 1) -> Host:
    return find_host("h.example", table, source=random.Random(seed), deadline=1.0)


def test_both_families_are_looked_up() -> None:
    table = Table(AAAA=found("AAAA", "2001:db8::1"), A=found("A", "192.0.2.1"))
    assert find(table) == Host("h.example", addresses("2001:db8::1"), addresses("192.0.2.1"))


def test_name_that_does_not_exist_is_not_asked_for_twice() -> None:
    table = Table(AAAA=Answer(Outcome.NO_NAME))
    assert find(table) == Host("h.example")
    assert table.asked == ["AAAA"]


def test_failure_of_one_family_does_not_hide_the_other() -> None:
    table = Table(AAAA=Answer(Outcome.FAILED, reason="timeout"), A=found("A", "192.0.2.1"))
    assert find(table) == Host("h.example", (), addresses("192.0.2.1"), "timeout")


def test_addresses_of_a_family_are_shuffled() -> None:
    table = Table(A=found("A", "192.0.2.1", "192.0.2.2", "192.0.2.3"))
    assert len({find(table, seed).ipv4 for seed in range(50)}) == 6


def test_addresses_that_are_nobodys_are_passed_over() -> None:
    table = Table(A=found("A", "224.0.0.1", "255.255.255.255"), AAAA=found("AAAA", "ff02::1"))
    assert find(table) == Host("h.example")


def test_mapped_address_is_an_ipv4_address() -> None:
    table = Table(AAAA=found("AAAA", "::ffff:192.0.2.1"))
    assert find(table).ipv4 == addresses("192.0.2.1")
