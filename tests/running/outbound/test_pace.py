"""How soon mail leaves, and how it goes to a host that was away."""

from __future__ import annotations

import smtplib
import socket
import statistics
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.delivery.hosts import Host, Talk
from tests.figures import Show
from tests.running.measure import MIB, pss
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import transact, views
from tests.running.program import PATIENCE, Program, eventually

SAMPLES = 20
LONG = 300.0
"""Seconds for 10,000 messages to arrive, on a machine that does much else."""

AT_ONCE = 0.05
"""Seconds from the 250 to the connection."""

BACK_OFF = 0.5
"""Seconds between two attempts to reach a host that is away, at least."""

MOST_GROWTH = 8 * MIB
"""Of a deliverer with 10,000 messages, each of which takes it some 300 octets."""


def test_mail_leaves_as_soon_as_it_is_safe(tmp_path: Path, show: Show) -> None:
    """The DNS is asked in between."""
    internet = Internet()
    addresses = [internet.address() for _ in range(SAMPLES)]
    domains = [internet.domain(f"d{number}", each) for number, each in enumerate(addresses)]
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(socket.create_server((each, internet.port))) for each in addresses
        ]
        names = stack.enter_context(internet.name_server(tmp_path))
        server = stack.enter_context(outbound(tmp_path / "out", internet, names))
        client = stack.enter_context(smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE))
        client.ehlo("client.example.org")
        times = []
        for host, domain in zip(hosts, domains, strict=True):
            host.settimeout(PATIENCE)
            transact(client, f"bob@{domain}")
            taken = time.monotonic()
            host.accept()[0].close()
            times.append(time.monotonic() - taken)
    middle, most = 1000 * statistics.median(times), 1000 * max(times)
    show(
        "From the 250 to the connection", [f"{middle:.1f} ms in the middle, {most:.1f} ms at most"]
    )
    assert statistics.median(times) < AT_ONCE


class Crowd:
    """How many transactions a host has at the same time."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def comes(self, talk: Talk) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        talk.say(b"250 2.1.0 ok\r\n")

    def goes(self, talk: Talk) -> None:
        with self._lock:
            self._now -= 1
        talk.say(b"250 2.0.0 stored\r\n")


@dataclass(frozen=True, slots=True)
class Outage:
    """A host that is away, and what waits for it."""

    messages: int
    connections: int = 20  # at a time, which is the default
    per_connection: int = 100  # the default, too


def deliverer(server: Program) -> int:
    """The pid of the one that there is."""
    (ready,) = (
        event for event in server.events("worker-ready") if event["worker"].startswith("deliverer")
    )
    pid: int = ready["pid"]
    return pid


def queue_up(port: int, domain: str, numbers: Iterable[int]) -> None:
    """Send a message for each number, all over one connection."""
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
        client.ehlo("client.example.org")
        for number in numbers:
            transact(client, f"to{number}@{domain}")


def hold_outage(directory: Path, show: Show, outage: Outage) -> None:
    """Queue the messages, let the host return, and see how they come."""
    internet = Internet()
    address = internet.address()
    domain = internet.domain("away", address)
    crowd = Crowd()
    replies = {"MAIL": crowd.comes, ".": crowd.goes}
    with ExitStack() as stack:
        names = stack.enter_context(internet.name_server(directory))
        server = stack.enter_context(
            outbound(
                directory / "out",
                internet,
                names,
                schedule={"retries": ["200 ms"]},
                relay={
                    "back_off": f"{BACK_OFF} s",
                    "back_off_most": "1 s",
                    "connections": outage.connections,
                    "messages": outage.per_connection,
                },
            )
        )
        pid = deliverer(server)
        sizes = [pss(pid)]
        since = time.monotonic()
        queue_up(server.port, domain, range(outage.messages))
        # In which time each of the messages would be tried ten times, were it alone.
        probes = len(server.await_event("host-failed", count=4))
        sizes.append(pss(pid))
        started = time.monotonic()
        host = stack.enter_context(Host(replies, address=address, port=internet.port))

        def have_come(messages: int) -> bool:
            sizes.append(pss(pid))
            return len(host.stored) >= messages

        eventually(lambda: have_come(outage.messages // 10), within=LONG, what="some messages")
        del sizes[2:-1]
        eventually(lambda: have_come(outage.messages), within=LONG, what="all messages")
        seconds = time.monotonic() - started
        eventually(lambda: views(server) == [])
        taken = {stored.recipients[0] for stored in host.stored}
        before, waiting, some_gone, *later = sizes
    show(
        f"{outage.messages} messages for a host that was away",
        [
            f"{probes} attempts to connect while it was away",
            f"all taken once, {seconds:.1f} s after it was back",
            f"{host.connections} connections, {crowd.most} transactions at a time",
            f"the deliverer grew by {waiting - before >> 10} KiB while they came to wait,"
            f" and by {max(later) - some_gone >> 10} KiB while the last nine tenths left",
        ],
    )
    assert len(taken) == len(host.stored) == outage.messages
    assert probes <= outage.connections + (started - since) / BACK_OFF
    assert crowd.most <= outage.connections
    assert host.connections <= outage.messages // outage.per_connection + 2 * outage.connections
    assert waiting - before <= MOST_GROWTH
    assert max(later) - some_gone <= MOST_GROWTH


def test_o6_host_that_is_away_is_probed_and_no_herd_comes_when_it_is_back(
    tmp_path: Path, show: Show
) -> None:
    hold_outage(tmp_path, show, Outage(messages=300, connections=5))


@pytest.mark.timeout(600)
def test_o6_ten_thousand_messages_for_a_host_that_returns_arrive_once_and_without_a_herd(
    tmp_path: Path, show: Show
) -> None:
    hold_outage(tmp_path, show, Outage(messages=10_000))
