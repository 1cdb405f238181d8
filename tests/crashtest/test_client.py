"""A client of the crash test: what it puts down as answered, whatever the server does."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from random import Random

import pytest

from pfsmtp.crashtest.client import Client, Post, Server
from pfsmtp.crashtest.ledger import Answer, Ledger
from pfsmtp.crashtest.message import Paper, recognise
from pfsmtp.crashtest.workload import Form, Order, Protection, Visit
from pfsmtp.tls import client_context
from tests.delivery.hosts import EXTENSIONS, Behaviour, Host, Talk

RUN = "0123abcd"
RECIPIENTS = ("a@x", "b@x")
FORMS = (Form.STEPS, Form.PIPELINED)

pytestmark = pytest.mark.parametrize("form", FORMS)


def order(number: int, form: Form) -> Order:
    return Order(number, 300, RECIPIENTS, form, halting=number % 2 == 1)


def send(host: Host, *orders: Order, ledger: Ledger | None = None) -> Ledger:
    """Have a client send these over one connection, or as many as it takes."""
    ledger = ledger or Ledger()
    post = Post(
        RUN,
        Server("127.0.0.1", host.port, None, client_context(verify=False)),
        ledger,
        Paper(Random(1)),
        sender=lambda number: f"crashtest+{number}@x",
        has_room=lambda: True,
    )
    client = Client(post, iter([Visit(Protection.NONE, orders)]), threading.Event())
    client.start()
    client.join(20)
    assert not client.is_alive()
    assert client.error is None
    return ledger


def answers(ledger: Ledger) -> list[Answer]:
    return [sent.answer for sent in ledger]


def test_what_it_sends_is_what_it_composed(form: Form) -> None:
    with Host() as host:
        ledger = send(host, order(1, form), order(2, form))
    assert answers(ledger) == [Answer.ACKNOWLEDGED] * 2
    seen = [recognise(RUN, stored.octets) for stored in host.stored]
    assert [(each.number, each.fault) for each in seen] == [(1, ""), (2, "")]
    assert host.connections == 1
    assert (ledger.acknowledged, ledger.promised) == (2, 4)


def test_it_is_promised_copies_for_those_who_were_accepted(form: Form) -> None:
    with Host({"RCPT TO:<a": b"450 4.2.1 no\r\n"}) as host:
        ledger = send(host, order(1, form))
    (sent,) = ledger
    assert (sent.answer, sent.recipients) == (Answer.ACKNOWLEDGED, ("b@x",))
    assert ledger.promised == 1


@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA", "."])
def test_a_refusal_is_put_down_and_the_next_message_sent(form: Form, at: str) -> None:
    times = 0

    def refuse(talk: Talk) -> None:
        nonlocal times
        times += 1
        last = 2 if at == "RCPT" else 1
        codes: Mapping[bool, bytes] = {True: b"451 4.3.0 no\r\n", False: b"250 2.0.0 ok\r\n"}
        if at == "DATA" and times > last:
            codes = {False: b"354 go\r\n"}
        talk.say(codes[times <= last])

    with Host({at: refuse}) as host:
        ledger = send(host, order(1, form), order(2, form))
    assert answers(ledger) == [Answer.REFUSED, Answer.ACKNOWLEDGED]
    assert (ledger.refused, ledger.promised) == (1, 2)


@pytest.mark.parametrize("at", ["MAIL", "RCPT TO:<b", "DATA", "."])
def test_a_connection_that_is_lost_answers_nothing_and_another_is_made(form: Form, at: str) -> None:
    left: list[Behaviour] = [Talk.reset]

    def reset_once(talk: Talk) -> None:
        if left:
            left.pop()
            talk.reset()
        talk.say(b"354 go\r\n" if at == "DATA" else b"250 2.0.0 ok\r\n")

    with Host({at: reset_once}) as host:
        ledger = send(host, order(1, form), order(2, form))
        assert answers(ledger) == [Answer.NONE, Answer.ACKNOWLEDGED]
        assert host.connections == 2


def test_what_is_not_offered_is_not_used(form: Form) -> None:
    del form
    offered = [each for each in EXTENSIONS if each != "PIPELINING"]
    with Host(extensions=offered) as host:
        send(host, order(1, Form.CHUNK), order(2, Form.CHUNKS), order(3, Form.PIPELINED))
    assert host.verbs.count("DATA") == 3
    assert len(host.stored) == 3
