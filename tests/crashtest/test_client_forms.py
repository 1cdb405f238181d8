"""Every way in which a client of the crash test sends, to a real server: all arrives whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest

from pfsmtp.crashtest.client import Client, Post, Server
from pfsmtp.crashtest.ledger import Answer, Ledger
from pfsmtp.crashtest.message import Paper, recognise
from pfsmtp.crashtest.workload import Form, Order, Protection, Visit
from pfsmtp.tls import client_context
from tests.running.program import Program

RUN = "0123abcd"
RECIPIENTS = ("alice@example.org", "bob@example.org")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Program]:
    with Program.inbound(tmp_path) as server:
        yield server


@pytest.mark.parametrize("protection", Protection)
def test_every_form_arrives_whole(server: Program, protection: Protection) -> None:
    numbers = count()
    orders = [
        Order(next(numbers), size, RECIPIENTS, form, halting)
        for form in Form
        for size in (100, 50_000, (1 << 20) + 1)
        for halting in (False, True)
    ]
    ledger = Ledger()
    post = Post(
        RUN,
        Server("127.0.0.1", server.port, server.smtps_port, client_context(verify=False)),
        ledger,
        Paper(Random(1)),
        sender=lambda number: f"crashtest+{number}@x",
        has_room=lambda: True,
    )
    client = Client(post, iter([Visit(protection, tuple(orders))]), threading.Event())
    client.start()
    client.join(60)
    assert client.error is None
    assert [sent.answer for sent in ledger] == [Answer.ACKNOWLEDGED] * len(orders)
    for login in ("alice", "bob"):
        seen = [recognise(RUN, octets) for octets in server.stored(login)]
        assert sorted((each.number, each.fault) for each in seen) == [
            (order.number, "") for order in orders
        ]
    (connection,) = server.await_event("connection")
    assert (connection["tls"] is None) == (protection is Protection.NONE)
    assert connection["messages"] == len(orders)
