"""Hosts that fail are left alone, and a destination gets so much at a time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from pfsmtp.config import Relay as Settings
from pfsmtp.config.units import SecondsOrOff
from pfsmtp.smtp.errors import PermanentFailure, TransientFailure
from pfsmtp.smtp.outcome import Kind, Outcome
from tests.delivery.hosts import Behaviour, Host, Talk
from tests.delivery.relaying import (
    Relaying,
    relaying,
)


class Clock:
    """Stands still for what is timed by the second, and moves when it is told to."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def test_host_that_fails_is_left_alone_then_probed_by_one() -> None:
    clock = Clock()
    with Host({"BANNER": b"421 busy\r\n"}) as host:
        test = Relaying(port=host.port, clock=clock)
        assert test.deliver_one().kind is Kind.DEFERRED
        report = test.try_()
        assert report.outcomes == []
        assert report.held is not None
        assert report.held.reason == "mx1.example.org refused the connection"
        assert 55 < report.held.until - clock() < 65
        assert test.relay.look("example.org") == report.held
        # Another destination with the same host does not ask it either.
        other = test.try_(domain="other.example")
        assert other.held is not None
        assert host.connections == 1

        clock.ahead += 70
        assert test.deliver_one().kind is Kind.DEFERRED
        held = test.try_().held
        assert held is not None
        assert 115 < held.until - clock() < 125
        assert host.connections == 2

        clock.ahead += 130
        host.replies = {}
        assert test.deliver_one().kind is Kind.DELIVERED
        assert test.deliver_one().kind is Kind.DELIVERED
        assert test.relay.look("example.org") is None

        # What is known against it begins anew.
        test.relay.close()
        host.replies = {"BANNER": b"421 busy\r\n"}
        assert test.deliver_one().kind is Kind.DEFERRED
        held = test.try_(domain="other.example").held
        assert held is not None
        assert 55 < held.until - clock() < 65


def test_destination_whose_hosts_are_not_found_is_left_alone_too() -> None:
    test = Relaying(failure=TransientFailure(4, 3, "the DNS does not say"))
    assert test.deliver_one().kind is Kind.DEFERRED
    held = test.relay.look("example.org")
    assert held is not None
    assert held.reason == "the DNS does not say"
    assert test.try_().held is not None
    assert test.routes == 1


def test_destination_that_does_not_exist_is_not_left_alone() -> None:
    test = Relaying(failure=PermanentFailure(1, 2, "no such domain"))
    for _ in range(2):
        assert test.deliver_one().kind is Kind.FAILED


def test_connection_that_was_kept_too_long_is_not_used() -> None:
    clock = Clock()
    with Host() as host:
        test = Relaying(port=host.port, clock=clock)
        for _ in range(2):
            assert test.deliver_one().kind is Kind.DELIVERED
            clock.ahead += 61
    assert host.connections == 2


def test_one_message_probes_while_the_others_are_held() -> None:
    clock = Clock()
    probing, go_on = threading.Event(), threading.Event()

    def slowly(talk: Talk) -> None:
        probing.set()
        go_on.wait(10)
        talk.say(b"220 back again\r\n")

    with Host({"BANNER": b"421 busy\r\n"}) as host:
        test = Relaying(port=host.port, clock=clock)
        test.deliver_one()
        clock.ahead += 70
        host.replies = {"BANNER": slowly}
        outcomes: list[Outcome] = []
        probe = threading.Thread(target=lambda: outcomes.extend(test.deliver()))
        probe.start()
        assert probing.wait(10)
        assert test.try_().held is not None
        assert test.relay.look("example.org") is not None
        go_on.set()
        probe.join()
        assert [outcome.kind for outcome in outcomes] == [Kind.DELIVERED]
        assert test.deliver_one().kind is Kind.DELIVERED
    assert host.connections == 2


def test_so_many_are_under_way_to_a_destination_and_no_more() -> None:
    inside = threading.Semaphore(0)
    go_on = threading.Event()

    def slowly(talk: Talk) -> None:
        inside.release()
        go_on.wait(10)
        talk.say(b"250 ok\r\n")

    with Host({".": slowly}) as host:
        test = Relaying(port=host.port, settings=Settings(connections=2))
        outcomes: list[Outcome] = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(test.deliver_one())) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for _ in range(2):
            assert inside.acquire(timeout=10)
        assert test.relay.room("example.org") == 0
        go_on.set()
        for thread in threads:
            thread.join()
    # The third has waited until one of the others was done.
    assert [outcome.kind for outcome in outcomes] == [Kind.DELIVERED] * 3
    assert host.connections == 2


def test_new_connections_keep_to_the_rate() -> None:
    clock = Clock()
    with Host() as host:
        settings = Settings(rate=6, reuse=SecondsOrOff(0))
        test = Relaying(port=host.port, settings=settings, clock=clock)
        assert test.deliver_one().kind is Kind.DELIVERED
        report = test.try_()
        assert report.held is not None
        assert report.outcomes == []
        assert 5 < report.held.until - clock() <= 10
        clock.ahead += 11
        assert test.deliver_one().kind is Kind.DELIVERED
    assert host.connections == 2


def test_refusal_of_a_message_does_not_hold_up_others() -> None:
    with Host({"RCPT TO:<b": b"450 later\r\n", "RCPT TO:<c": b"550 no\r\n"}) as host:
        test = relaying(host)
        for name in ("b", "c", "a"):
            test.deliver(name)
        assert test.relay.look("example.org") is None
    assert len(host.stored) == 1


def test_failures_are_logged_once_with_their_reason() -> None:
    with Host({"BANNER": b"421 4.3.2 busy\r\n"}) as host:
        test = relaying(host)
        test.deliver("a", "b")
    assert test.events.named("host-failed") == [
        {"host": "mx1.example.org", "address": "127.0.0.1", "reason": "421 4.3.2 busy"}
    ]


def test_smart_host_never_bounces_for_what_is_the_operators_to_mend() -> None:
    refusals: list[dict[str, Behaviour]] = [
        {"BANNER": b"554 no\r\n"},
        {"EHLO": b"550 no\r\n", "HELO": b"550 no\r\n"},
        {"MAIL": b"530 5.7.0 log in first\r\n"},
    ]
    for replies in refusals:
        with Host(replies) as host:
            test = replace(relaying(host), smart_host="smart.example")
            assert test.deliver_one().kind is Kind.DEFERRED


def test_smart_host_is_one_destination_for_all_domains() -> None:
    with Host({"BANNER": b"421 busy\r\n"}) as host:
        test = Relaying(port=host.port, smart_host="smart.example")
        assert test.deliver_one().kind is Kind.DEFERRED
        assert test.relay.look("another.example") is not None
        assert test.relay.destination("another.example") == test.relay.destination("example.org")
    assert host.connections == 1
