"""What one client may have, when it is not of this machine; in a network of the test's own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.running.namespace import (
    CLIENTS,
    CLIENTS6,
    LOOPBACK,
    SERVER,
    SERVER6,
    Namespace,
    namespace,
)
from tests.running.program import Program, Talk, eventually

AT_ONCE = 3
A_MINUTE = 10
UNKNOWN_A_MINUTE = 100
DELAY = 0.5
"""Seconds until the greeting."""


@pytest.fixture(scope="module")
def network() -> Iterator[Namespace]:
    with namespace() as network:
        yield network


@pytest.fixture
def serve(tmp_path: Path, network: Namespace) -> Callable[..., Program]:
    """Make a server in the network, with these limits."""

    def make(**limits: Any) -> Program:
        server = Program.inbound(tmp_path, limits={"greeting_delay": "0 s", **limits})
        listen = [f"{SERVER}:{server.port}", f"[{SERVER6}]:{server.port}"]
        server.reconfigure(listen={"smtp": [*listen, f"{LOOPBACK}:{server.port}"], "smtps": []})
        server.prefix = network.prefix
        return server

    return make


@contextmanager
def connections(server: Program, network: Namespace, *clients: str) -> Iterator[list[Talk]]:
    with ExitStack() as stack:
        yield [stack.enter_context(network.connect(server.port, client)) for client in clients]


def codes(talks: list[Talk]) -> list[str]:
    return [talk.hear()[:9] for talk in talks]


def test_client_has_so_many_connections_at_once_over_all_workers(
    serve: Callable[..., Program], network: Namespace
) -> None:
    with (
        serve(client_connections=AT_ONCE) as server,
        connections(server, network, *[CLIENTS[0]] * AT_ONCE) as first,
    ):
        assert codes(first) == ["220 mx.ex"] * AT_ONCE
        with connections(server, network, *CLIENTS) as others:
            assert codes(others) == ["421 4.7.0", "220 mx.ex", "220 mx.ex"]
            assert others[0].closed()
        assert first[0].say("NOOP").startswith("250")
        first[0].say("QUIT")
        eventually(lambda: is_served(server, network))


def is_served(server: Program, network: Namespace, client: str = CLIENTS[0]) -> bool:
    with network.connect(server.port, client) as talk:
        return talk.hear().startswith("220")


def test_ipv6_clients_are_networks_of_64_bits(
    serve: Callable[..., Program], network: Namespace
) -> None:
    with (
        serve(client_connections=AT_ONCE) as server,
        connections(server, network, *[CLIENTS6[0]] * AT_ONCE, *CLIENTS6) as talks,
    ):
        assert codes(talks) == ["220 mx.ex"] * AT_ONCE + ["421 4.7.0"] * 2 + ["220 mx.ex"]


def test_killed_worker_gives_back_what_its_clients_held(
    serve: Callable[..., Program], network: Namespace
) -> None:
    with serve(client_connections=AT_ONCE) as server:
        with connections(server, network, *[CLIENTS[0]] * AT_ONCE) as talks:
            assert codes(talks) == ["220 mx.ex"] * AT_ONCE
            before = set(server.workers())
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            assert all(talk.closed() for talk in talks)
        eventually(lambda: len(set(server.workers()) - before) == 2)
        with connections(server, network, *[CLIENTS[0]] * AT_ONCE) as talks:
            assert codes(talks) == ["220 mx.ex"] * AT_ONCE
            assert not is_served(server, network)


def test_client_opens_so_many_connections_in_a_minute(
    serve: Callable[..., Program], network: Namespace
) -> None:
    with serve(client_rate=A_MINUTE) as server:
        greeted = 0
        for _ in range(2 * A_MINUTE):
            with network.connect(server.port, CLIENTS[0]) as client:
                greeted += client.hear().startswith("220")
        # A minute may have begun in between.
        assert A_MINUTE <= greeted < 2 * A_MINUTE
        assert is_served(server, network, CLIENTS[1])


def test_loopback_is_exempt(serve: Callable[..., Program], network: Namespace) -> None:
    with serve(client_connections=AT_ONCE, client_rate=A_MINUTE) as server, ExitStack() as stack:
        for _ in range(2 * A_MINUTE):
            talk = stack.enter_context(network.connect(server.port, LOOPBACK))
            assert talk.hear().startswith("220")


def test_who_asks_for_a_hundred_unknown_users_is_told_to_go(
    serve: Callable[..., Program], network: Namespace
) -> None:
    asking = 10
    with serve(errors_slow=1000, errors_close=1000) as server:
        with connections(server, network, *[CLIENTS[0]] * asking) as talks:
            answers = []
            for talk in talks:
                talk.greet()
                talk.say("MAIL FROM:<sender@example.net>")
                for user in range(20):
                    answers.append(talk.say(f"RCPT TO:<user{user}@example.org>")[:9])
                    if answers[-1].startswith("421"):
                        assert talk.closed()
                        break
        assert answers[:UNKNOWN_A_MINUTE] == ["550 5.1.1"] * UNKNOWN_A_MINUTE
        assert set(answers[UNKNOWN_A_MINUTE:]) == {"421 4.7.0"}
        assert not is_served(server, network)
        assert is_served(server, network, CLIENTS[1])


def test_rfc5321_3_1_client_that_speaks_before_the_greeting_is_refused(
    serve: Callable[..., Program], network: Namespace
) -> None:
    with (
        serve(greeting_delay=f"{DELAY} s") as server,
        connections(server, network, CLIENTS[0], CLIENTS6[0]) as talks,
    ):
        for talk in talks:
            talk.send(b"EHLO early.example.net\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n")
            assert talk.hear().startswith("554 5.5.1")
            assert talk.closed()


def test_rfc5321_3_1_client_that_waits_is_greeted(
    serve: Callable[..., Program], network: Namespace
) -> None:
    with serve(greeting_delay=f"{DELAY} s") as server:
        started = time.monotonic()
        with network.connect(server.port, CLIENTS6[0]) as client:
            client.begin()
            assert time.monotonic() - started > DELAY
            assert client.say("Subject: patient\r\n.").startswith("250")
        (stored,) = server.stored("alice")
        assert b"Received: from client.example.net ([IPv6:2001:db8:1::1])\n" in stored
        # Who has not to wait may speak at once.
        with network.connect(server.port, LOOPBACK) as client:
            client.send(b"NOOP\r\n")
            assert client.hear().startswith("220")
