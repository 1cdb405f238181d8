"""Connections that were kept for the next message, and have died since."""

from __future__ import annotations

import threading

import pytest

from pfsmtp.config import Relay as Settings
from pfsmtp.smtp.outcome import Kind
from tests.delivery.hosts import Behaviour, Host, Talk
from tests.delivery.relaying import (
    Relaying,
    relaying,
)


@pytest.mark.parametrize("behaviour", [b"421 4.4.2 idle\r\n", Talk.close, Talk.reset])
def test_kept_connection_that_is_dead_is_replaced(behaviour: Behaviour) -> None:
    with Host() as host:
        test = relaying(host)
        assert test.deliver_one().kind is Kind.DELIVERED
        host.replies = {"MAIL": once(behaviour)}
        assert test.deliver_one().kind is Kind.DELIVERED
    assert host.connections == 2
    assert test.events.named("host-failed") == []


OK = b"250 ok\r\n"


def once(behaviour: Behaviour) -> Behaviour:
    """The behaviour the first time, and what is usual for MAIL afterwards."""
    left = [behaviour]

    def act(talk: Talk) -> None:
        now = left.pop() if left else b"250 ok\r\n"
        if callable(now):
            now(talk)
        else:
            talk.say(now)

    return act


def test_kept_connections_that_are_all_dead_cost_one_try() -> None:
    with Host() as host:
        test = relaying(host)
        together = threading.Barrier(3)

        def wait(talk: Talk) -> None:
            together.wait(10)
            talk.say(b"250 ok\r\n")

        host.replies = {".": wait}
        threads = [threading.Thread(target=test.deliver_one) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert host.connections == 3
        dead = host.connections
        host.replies = {
            "MAIL": lambda talk: (
                talk.close() if len(host.commands) == dead else talk.say(b"250 ok\r\n")
            )
        }
        assert test.deliver_one().kind is Kind.DELIVERED
    assert host.connections == 4
    assert host.verbs.count("MAIL") == 3 + 1 + 1


def test_kept_connection_that_dies_later_is_a_failure_of_the_host() -> None:
    with Host() as host:
        test = relaying(host)
        assert test.deliver_one().kind is Kind.DELIVERED
        host.replies = {"DATA": Talk.reset}
        assert test.deliver_one().kind is Kind.DEFERRED
    assert host.connections == 1


def test_connection_that_dies_between_groups_of_recipients_is_a_failure_of_the_host() -> None:
    with Host() as host:
        test = Relaying(port=host.port, settings=Settings(recipients=1))
        assert test.deliver_one().kind is Kind.DELIVERED
        host.replies = {"MAIL": lambda talk: talk.close() if host.stored[1:] else talk.say(OK)}
        first, second = test.deliver("a", "b")
    assert (first.kind, second.kind) == (Kind.DELIVERED, Kind.DEFERRED)
    assert second.text == "mx1.example.org closed the connection at MAIL"


def test_host_that_restarts_is_found_again() -> None:
    with Host() as host:
        test = relaying(host)
        assert test.deliver_one().kind is Kind.DELIVERED
    with Host(port=host.port) as again:
        assert test.deliver_one().kind is Kind.DELIVERED
    assert len(again.stored) == 1
