"""Hosts that do what no decent host does: every wait ends, and nothing is lost or doubled."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from pfsmtp.delivery.relay.connection import Budgets
from pfsmtp.smtp.outcome import Kind
from tests.delivery.hosts import Behaviour, Host, Talk
from tests.delivery.relaying import (
    SHORT,
    Relaying,
    hosts,
    relaying,
    said,
    timeouts,
)

LOCKSTEP = ("8BITMIME",)


def short(host: Host) -> Relaying:
    """A relay with little patience."""
    brief = timeouts(**dict.fromkeys(("banner", "hello", "mail", "recipient", "data"), SHORT))
    return Relaying(port=host.port, budgets=Budgets(brief, alone=SHORT))


def endless(talk: Talk) -> None:
    while True:
        talk.say(1000 * b"250-more\r\n")


def long_line(talk: Talk) -> None:
    talk.say(b"250 " + 100_000 * b"a" + b"\r\n")
    talk.hang()


def dripping(talk: Talk) -> None:
    talk.drip(b"220 " + 400 * b"a" + b"\r\n")


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ({"BANNER": Talk.hang}, "did not answer in time at connection"),
        ({"BANNER": dripping}, "did not answer in time at connection"),
        ({"EHLO": Talk.hang}, "did not answer in time at EHLO"),
        ({"EHLO": endless}, "sent a reply of more than 256 lines at EHLO"),
        ({"EHLO": long_line}, "sent a reply line of more than 4096 octets at EHLO"),
        ({"EHLO": b"250-mx\r\n251 x\r\n"}, "sent a reply whose code changes at EHLO"),
        ({"BANNER": b"220 mx\n"}, 'sent what is no reply ("220 mx") at connection'),
        ({"BANNER": b"220 mx\r\n250 mx\r\n"}, "sent a reply that nobody asked for"),
        ({"MAIL": Talk.hang}, "did not answer in time at MAIL"),
        ({"RCPT": Talk.hang}, "did not answer in time at RCPT"),
        ({"DATA": Talk.hang}, "did not answer in time at DATA"),
        ({"DATA": b"250 ok\r\n"}, "gave a reply to DATA that does not fit"),
        ({"MAIL": Talk.reset}, "broke the connection (connection reset by peer) at MAIL"),
    ],
    ids=str,
)
@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
def test_hostile_host_defers(
    replies: dict[str, Behaviour], reason: str, extensions: tuple[str, ...]
) -> None:
    with Host(replies, extensions) as host:
        outcome = short(host).deliver_one()
    assert said(outcome)[0::2] == (Kind.DEFERRED, f"mx1.example.org {reason}")
    assert not outcome.uncertain
    assert host.stored == []


def test_opening_has_a_time_in_total() -> None:
    def slowly(talk: Talk) -> None:
        talk.wait(SHORT)
        talk.say(b"250-mx\r\n")

    with Host({"EHLO": slowly}) as host:
        test = Relaying(port=host.port, budgets=Budgets(timeouts(), opening=SHORT / 2))
        began = time.monotonic()
        assert test.deliver_one().kind is Kind.DEFERRED
        assert time.monotonic() - began < 2 * SHORT


def test_commands_have_a_time_in_total() -> None:
    def slowly(talk: Talk) -> None:
        talk.wait(SHORT / 4)
        talk.say(b"250 ok\r\n")

    with Host({"RCPT": slowly}, LOCKSTEP) as host:
        budgets = Budgets(timeouts(), commands=SHORT)
        outcomes = Relaying(port=host.port, budgets=budgets).deliver(*map(str, range(20)))
    assert {outcome.kind for outcome in outcomes} == {Kind.DEFERRED}
    assert host.verbs.count("RCPT") < 10


def test_rfc5321_4_5_3_2_6_final_dot_is_waited_for_whatever_else_took_long() -> None:
    def slowly(talk: Talk) -> None:
        talk.wait(2 * SHORT)
        talk.say(b"250 stored at last\r\n")

    with Host({".": slowly}) as host:
        budgets = Budgets(timeouts(mail=SHORT, data=SHORT), commands=SHORT)
        outcome = Relaying(port=host.port, budgets=budgets).deliver_one()
    assert outcome.kind is Kind.DELIVERED


def test_host_that_does_not_read_is_given_up() -> None:
    def ignore(talk: Talk) -> None:
        talk.say(b"354 go\r\n")
        talk.wait(5)

    with Host({"DATA": ignore}, extensions=()) as host:
        budgets = Budgets(timeouts(block=SHORT))
        test = Relaying(port=host.port, budgets=budgets)
        (outcome,) = test.try_(message=20_000_000 * b"a" + b"\r\n").outcomes
        assert outcome.text == "mx1.example.org did not read what it was sent at the message"
        assert not outcome.uncertain
        host._over.set()


def test_host_that_hangs_up_in_the_message_may_say_why() -> None:
    def refuse(talk: Talk) -> None:
        talk.say(b"354 go\r\n")
        talk.sock.recv(1000)
        talk.say(b"552 5.3.4 too big\r\n")
        talk.close()

    with Host({"DATA": refuse}, extensions=()) as host:
        (outcome,) = relaying(host).try_(message=50_000_000 * b"a" + b"\r\n").outcomes
    assert said(outcome) == (Kind.FAILED, "5.3.4", "552 5.3.4 too big")


@pytest.mark.parametrize("behaviour", [Talk.close, Talk.reset, Talk.hang])
def test_no_reply_to_the_final_dot_is_uncertain(behaviour: Behaviour) -> None:
    with ExitStack() as stack:
        first, second = hosts(stack, {".": behaviour}, {})
        budgets = Budgets(timeouts(final_dot=SHORT))
        test = Relaying([first.address, second.address], first.port, budgets=budgets)
        outcomes = test.deliver("a", "b")
    assert [(each.kind, each.uncertain) for each in outcomes] == [(Kind.DEFERRED, True)] * 2
    # The first host may have the message: the second is not asked.
    assert second.connections == 0
    logged = test.events.named("delivery-uncertain")
    assert [each["recipient"] for each in logged] == ["a@example.org", "b@example.org"]


def test_uncertain_recipients_are_not_tried_again_but_others_are() -> None:
    with ExitStack() as stack:
        first, second = hosts(stack, {".": Talk.close, "RCPT TO:<b": b"450 later\r\n"}, {})
        outcomes = relaying(first, second).deliver("a", "b")
    assert [(each.kind, each.uncertain) for each in outcomes] == [
        (Kind.DEFERRED, True),
        (Kind.DELIVERED, False),
    ]
    assert [stored.recipients for stored in second.stored] == [[b"RCPT TO:<b@example.org>"]]
