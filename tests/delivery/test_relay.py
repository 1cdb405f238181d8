"""Messages handed on to hosts that do their duty."""

from __future__ import annotations

import time

import pytest

from pfsmtp.config import Relay as Settings
from pfsmtp.config.units import SecondsOrOff
from pfsmtp.smtp.outcome import Kind
from tests.delivery.hosts import Host, Talk
from tests.delivery.relaying import (
    MESSAGE,
    Relaying,
    relaying,
    said,
)


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
def test_message_is_delivered(extensions: tuple[str, ...]) -> None:
    with Host(extensions=extensions) as host:
        test = relaying(host)
        outcome = test.deliver_one()
    assert said(outcome) == (Kind.DELIVERED, "2.0.0", "250 2.0.0 stored")
    assert (outcome.host, outcome.address) == ("mx1.example.org", "127.0.0.1")
    assert outcome.reason == "mx1.example.org took the message"
    (stored,) = host.stored
    assert stored.octets == MESSAGE
    assert stored.recipients == [b"RCPT TO:<bob@example.org>"]


def test_ipv6() -> None:
    with Host(address="::1") as host:
        assert relaying(host).deliver_one().kind is Kind.DELIVERED


def test_connection_is_used_for_the_next_message() -> None:
    with Host() as host:
        test = relaying(host)
        for _ in range(3):
            assert test.deliver_one().kind is Kind.DELIVERED
    assert len(host.stored) == 3
    assert host.connections == 1
    assert test.routes == 1


def test_connection_is_used_for_another_destination_with_the_same_host() -> None:
    with Host() as host:
        test = relaying(host)
        for domain in ("a.example", "b.example", "a.example"):
            (outcome,) = test.try_(domain=domain).outcomes
            assert outcome.kind is Kind.DELIVERED
    assert host.connections == 1


def test_connection_is_used_for_so_many_messages() -> None:
    with Host() as host:
        test = Relaying(port=host.port, settings=Settings(messages=2))
        for _ in range(5):
            assert test.deliver_one().kind is Kind.DELIVERED
        test.relay.close()
    assert host.connections == 3
    assert host.verbs.count("QUIT") == 3


def test_rfc9422_host_says_how_many_messages_a_connection_takes() -> None:
    with Host(extensions=("LIMITS MAILMAX=1",)) as host:
        test = relaying(host)
        for _ in range(2):
            assert test.deliver_one().kind is Kind.DELIVERED
    assert host.connections == 2


def test_connections_are_not_kept_where_that_is_not_wanted() -> None:
    with Host() as host:
        test = Relaying(port=host.port, settings=Settings(reuse=SecondsOrOff(0)))
        for _ in range(2):
            assert test.deliver_one().kind is Kind.DELIVERED
    assert host.connections == 2


def test_idle_connection_is_told_quit_and_closed_when_it_has_answered() -> None:
    with Host() as host:
        test = Relaying(port=host.port, settings=Settings(reuse=SecondsOrOff(0.05)))
        test.deliver_one()
        end = time.monotonic() + 5
        while "QUIT" not in host.verbs and time.monotonic() < end:
            test.relay.tidy()
        while test.relay._pool._leaving and time.monotonic() < end:
            test.relay.tidy()
        assert test.relay._pool._leaving == []
        assert test.deliver_one().kind is Kind.DELIVERED
    assert host.verbs.count("QUIT") == 1
    assert host.connections == 2


def test_recipients_go_in_groups() -> None:
    with Host() as host:
        test = Relaying(port=host.port, settings=Settings(recipients=2))
        outcomes = test.deliver("a", "b", "c", "d", "e")
    assert {outcome.kind for outcome in outcomes} == {Kind.DELIVERED}
    assert [len(stored.recipients) for stored in host.stored] == [2, 2, 1]
    assert host.connections == 1


def test_rfc9422_host_says_how_many_recipients_a_transaction_takes() -> None:
    with Host(extensions=("PIPELINING", "LIMITS RCPTMAX=1")) as host:
        outcomes = relaying(host).deliver("a", "b")
    assert {outcome.kind for outcome in outcomes} == {Kind.DELIVERED}
    assert [len(stored.recipients) for stored in host.stored] == [1, 1]


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
def test_rfc5321_4_5_3_1_10_recipients_that_were_too_many_come_again(
    extensions: tuple[str, ...],
) -> None:
    with Host(extensions=extensions) as host:

        def answer(talk: Talk) -> None:
            is_first = host.commands[0][-2].startswith(b"MAIL")
            talk.say(b"250 ok\r\n" if is_first else b"452 4.5.3 too many\r\n")

        host.replies = {"RCPT": answer}
        outcomes = relaying(host).deliver("a", "b", "c")
    assert [outcome.kind for outcome in outcomes] == [Kind.DELIVERED] * 3
