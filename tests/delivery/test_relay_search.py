"""Which host is asked, and when the next one is."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import ExitStack

import pytest

from pfsmtp.config import Relay as Settings
from pfsmtp.delivery.relay.backoff import BackOff, Held
from pfsmtp.delivery.relay.connection import Budgets
from pfsmtp.delivery.relay.search import Search
from pfsmtp.net.dialing import Dialed, Dialing
from pfsmtp.resolver import Destination
from pfsmtp.smtp.errors import PermanentFailure, TransientFailure
from pfsmtp.smtp.outcome import Kind
from tests.delivery.hosts import Behaviour, BlackHole, Host, Talk
from tests.delivery.relaying import (
    SHORT,
    Relaying,
    hosts,
    relaying,
    said,
    timeouts,
)


def test_first_host_that_takes_it_ends_the_search() -> None:
    with ExitStack() as stack:
        first, second = hosts(stack, {}, {})
        assert relaying(first, second).deliver_one().host == "mx1.example.org"
    assert second.connections == 0


NO_MAIL: list[dict[str, Behaviour]] = [
    {"BANNER": b"554 no mail here\r\n"},
    {"EHLO": b"502 no\r\n", "HELO": b"502 no\r\n"},
]
NOT_NOW: list[dict[str, Behaviour]] = [
    *NO_MAIL,
    {"BANNER": b"421 4.3.2 busy\r\n"},
    {"BANNER": b"SSH-2.0\r\n"},
    {"BANNER": Talk.close},
    {"BANNER": Talk.reset},
    {"EHLO": b"451 later\r\n"},
    {"EHLO": Talk.close},
    {"MAIL": b"451 4.3.0 later\r\n"},
    {"MAIL": b"421 4.3.0 bye\r\n"},
    {"MAIL": Talk.reset},
    {"RCPT": b"450 4.2.0 greylisted\r\n"},
    {"RCPT": b"421 4.2.0 bye\r\n"},
    {"RCPT": b"garbage\r\n"},
    {"DATA": b"451 4.3.0 later\r\n"},
    {"DATA": Talk.close},
    {".": b"451 4.3.0 later\r\n"},
    {".": b"421 4.3.0 later\r\n"},
]


@pytest.mark.parametrize("replies", NOT_NOW, ids=str)
def test_host_that_fails_or_says_not_now_is_followed_by_the_next(
    replies: dict[str, Behaviour],
) -> None:
    with ExitStack() as stack:
        first, second = hosts(stack, replies, {})
        outcome = relaying(first, second).deliver_one()
    assert outcome.kind is Kind.DELIVERED
    assert outcome.host == "mx2.example.org"
    assert first.connections == 1


@pytest.mark.parametrize("replies", [each for each in NOT_NOW if each not in NO_MAIL], ids=str)
def test_last_host_that_fails_defers(replies: dict[str, Behaviour]) -> None:
    with Host(replies) as host:
        outcome = relaying(host).deliver_one()
    assert outcome.kind is Kind.DEFERRED
    assert not outcome.uncertain
    assert outcome.host == "mx1.example.org"


def test_connection_that_is_reset_before_anyone_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = Dialing.wait

    def wait_late(self: Dialing, seconds: float) -> Dialed | None:
        time.sleep(0.05)
        return wait(self, seconds)

    monkeypatch.setattr(Dialing, "wait", wait_late)
    with Host({"BANNER": Talk.reset}) as host:
        outcome = relaying(host).deliver_one()
    assert said(outcome)[:2] == (Kind.DEFERRED, "4.4.2")
    assert "broke the connection" in outcome.reason


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("MAIL", "mx1.example.org refused the sender"),
        ("RCPT", "mx1.example.org refused the recipient"),
        ("DATA", "mx1.example.org refused the message"),
        (".", "mx1.example.org refused the message"),
    ],
)
@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
def test_5yz_from_a_host_is_final(command: str, reason: str, extensions: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        first, second = hosts(stack, {command: b"550 5.7.1 no\r\n"}, {})
        first.extensions = extensions
        test = relaying(first, second)
        outcome = test.deliver_one()
        assert said(outcome) == (Kind.FAILED, "5.7.1", "550 5.7.1 no")
        assert outcome.reason == reason
        # It says nothing against the host, nor against the connection.
        first.replies = {}
        assert test.deliver_one().kind is Kind.DELIVERED
    assert first.connections == 1
    assert second.connections == 0


@pytest.mark.parametrize("refusal", NO_MAIL, ids=str)
def test_all_hosts_refuse_mail_altogether(refusal: dict[str, Behaviour]) -> None:
    with ExitStack() as stack:
        test = relaying(*hosts(stack, refusal, refusal))
        assert said(test.deliver_one())[:2] == (Kind.FAILED, "5.0.0")


def test_one_host_refuses_mail_altogether_and_another_is_away() -> None:
    with ExitStack() as stack:
        test = relaying(*hosts(stack, {"BANNER": b"421 away\r\n"}, {"BANNER": b"554 no\r\n"}))
        assert test.deliver_one().kind is Kind.DEFERRED


def test_recipients_who_are_settled_are_not_tried_at_the_next_host() -> None:
    with ExitStack() as stack:
        first, second = hosts(
            stack,
            {"RCPT TO:<b": b"450 4.2.0 later\r\n", "RCPT TO:<c": b"550 5.1.1 no such user\r\n"},
            {"RCPT TO:<b": b"450 4.2.1 later still\r\n"},
        )
        outcomes = relaying(first, second).deliver("a", "b", "c")
    assert [(outcome.kind, outcome.host) for outcome in outcomes] == [
        (Kind.DELIVERED, "mx1.example.org"),
        (Kind.DEFERRED, "mx2.example.org"),
        (Kind.FAILED, "mx1.example.org"),
    ]
    assert [stored.recipients for stored in first.stored] == [[b"RCPT TO:<a@example.org>"]]
    assert second.stored == []


def test_no_more_addresses_are_tried_than_allowed() -> None:
    with ExitStack() as stack:
        later: dict[str, Behaviour] = {"MAIL": b"450 later\r\n"}
        found = hosts(stack, later, later, {})
        test = Relaying(
            [host.address for host in found], found[0].port, settings=Settings(addresses=2)
        )
        assert test.deliver_one().kind is Kind.DEFERRED
    assert found[2].connections == 0


def test_refused_connection_goes_on_to_the_next_address() -> None:
    with Host(address="127.0.0.2") as host:
        test = Relaying(["127.0.0.1", "127.0.0.2"], host.port)
        assert test.deliver_one().host == "mx2.example.org"


def test_nobody_listens() -> None:
    with Host() as host:
        pass
    outcome = relaying(host).deliver_one()
    assert said(outcome) == (
        Kind.DEFERRED,
        "4.4.1",
        "mx1.example.org could not be reached (connection refused)",
    )


def test_black_hole_is_not_waited_for_alone() -> None:
    with Host(address="127.0.0.2") as host, BlackHole("127.0.0.1", host.port):
        test = Relaying(["127.0.0.1", "127.0.0.2"], host.port)
        began = time.monotonic()
        assert test.deliver_one().host == "mx2.example.org"
        assert SHORT <= time.monotonic() - began < 10 * SHORT
        # It is left alone for a while, so that the next connection costs nothing.
        test.relay.close()
        began = time.monotonic()
        assert test.deliver_one().host == "mx2.example.org"
        assert time.monotonic() - began < SHORT


def test_refusal_is_followed_by_the_next_at_once_while_a_black_hole_is_waited_for() -> None:
    with Host(address="127.0.0.3") as host, BlackHole("127.0.0.1", host.port):
        addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        test = Relaying(addresses, host.port, budgets=Budgets(timeouts(), alone=0.8))
        began = time.monotonic()
        assert test.deliver_one().host == "mx3.example.org"
        assert 0.8 <= time.monotonic() - began < 1.6


def test_address_of_two_hosts_is_tried_once() -> None:
    with Host({"MAIL": b"451 later\r\n"}) as host:
        test = Relaying(["127.0.0.1", "127.0.0.1"], host.port)
        assert test.deliver_one().kind is Kind.DEFERRED
    assert host.verbs.count("MAIL") == 1


def returning(*addresses: str) -> BackOff[str]:
    """What is known of addresses that failed, and whose time has come."""
    back_off: BackOff[str] = BackOff(60.0, 60.0, clock=lambda: 2000.0, random=lambda: 0.5)
    for address in addresses:
        back_off.hold(address, Held(1000.0, "away"))
    return back_off


def search_among(addresses: tuple[str, ...], port: int, back_off: BackOff[str]) -> Search:
    return Search(
        iter([Destination("mx.example.org", address) for address in addresses]),
        port,
        most=5,
        timeout=10.0,
        alone=0.01,
        tried=set(),
        back_off=back_off,
        clock=time.monotonic,
    )


def test_address_that_was_not_tried_after_all_may_be_probed_by_the_next() -> None:
    back_off = returning("192.0.2.1")
    for _ in range(2):
        search = search_among(("192.0.2.1",), 25, back_off)
        assert search.peek() is not None
        search.leave()


@pytest.mark.parametrize("sockets", [0, 1])
def test_addresses_that_were_not_tried_for_want_of_sockets_may_be_probed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, sockets: int
) -> None:
    make_socket, left = socket.socket, iter(range(sockets))

    def scarce(*arguments: int) -> socket.socket:
        if next(left, None) is None:
            raise OSError(errno.EMFILE, "Too many open files")
        return make_socket(*arguments)

    with Host() as host:
        pass
    addresses = ("127.0.0.1", "127.0.0.2")
    back_off = returning(*addresses)
    with BlackHole(addresses[0], host.port):
        search = search_among(addresses, host.port, back_off)
        with monkeypatch.context() as patch:
            patch.setattr("pfsmtp.net.dialing.socket.socket", scarce)
            with pytest.raises(TransientFailure):
                search.connect()
        search.leave()
    assert [back_off.enter(address) for address in addresses] == [None, None]


def test_address_that_cannot_be_asked_again_for_want_of_sockets_may_be_probed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with Host() as host:
        back_off = returning(host.address)
        search = search_among((host.address,), host.port, back_off)
        found = search.connect()
        assert found is not None
        destination, sock = found
        sock.close()
        with monkeypatch.context() as patch:
            patch.setattr("pfsmtp.net.dialing.socket.socket", none_left)
            with pytest.raises(TransientFailure):
                search.reconnect(destination)
        search.leave()
    assert back_off.enter(host.address) is None


def test_black_hole_alone_ends_with_the_time_to_connect() -> None:
    with Host() as host:
        pass
    with BlackHole("127.0.0.1", host.port):
        test = Relaying(port=host.port, budgets=Budgets(timeouts(connect=SHORT)))
        assert test.deliver_one().text == "mx1.example.org did not answer"


def test_slow_host_is_taken_when_the_next_is_worse() -> None:
    with ExitStack() as stack:
        first, second = hosts(stack, {"BANNER": lambda talk: slow_banner(talk)}, {})
        assert relaying(first, second).deliver_one().host == "mx1.example.org"
    assert second.connections == 0


def slow_banner(talk: Talk) -> None:
    talk.wait(2 * SHORT)
    talk.say(b"220 mx\r\n")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (PermanentFailure(1, 2, "no such domain"), Kind.FAILED),
        (TransientFailure(4, 3, "the DNS does not say"), Kind.DEFERRED),
    ],
)
def test_failure_to_find_a_host_is_the_outcome(
    failure: PermanentFailure | TransientFailure, kind: Kind
) -> None:
    test = Relaying(failure=failure)
    outcomes = test.deliver("a", "b")
    assert [said(each) for each in outcomes] == [(kind, str(failure.status), failure.text)] * 2


def test_no_sockets_left_is_no_fault_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with Host() as host:
        test = relaying(host)
        with monkeypatch.context() as patch:
            patch.setattr("pfsmtp.net.dialing.socket.socket", none_left)
            outcome = test.deliver_one()
    assert said(outcome) == (
        Kind.DEFERRED,
        "4.3.0",
        "this server has no room for more connections",
    )
