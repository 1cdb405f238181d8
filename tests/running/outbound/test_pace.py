"""How soon mail leaves, and how it goes to a host that was away."""

from __future__ import annotations

import smtplib
import socket
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from tests.delivery.hosts import Host, Talk
from tests.figures import Show
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import transact, views
from tests.running.program import PATIENCE, eventually

SAMPLES = 20
AT_ONCE = 0.05
"""Seconds from the 250 to the connection."""

WAITING = 300
CONNECTIONS = 5


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


def test_o6_host_that_is_away_is_probed_and_no_herd_comes_when_it_is_back(
    tmp_path: Path, show: Show
) -> None:
    internet = Internet()
    address = internet.address()
    domain = internet.domain("away", address)
    crowd = Crowd()
    replies = {"MAIL": crowd.comes, ".": crowd.goes}
    with ExitStack() as stack:
        names = stack.enter_context(internet.name_server(tmp_path))
        server = stack.enter_context(
            outbound(
                tmp_path / "out",
                internet,
                names,
                schedule={"retries": ["200 ms"]},
                relay={"back_off": "500 ms", "back_off_most": "1 s", "connections": CONNECTIONS},
            )
        )
        client = stack.enter_context(smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE))
        client.ehlo("client.example.org")
        for _ in range(WAITING):
            transact(client, f"bob@{domain}")
        # In which time each of the messages would be tried ten times, were it alone.
        probes = len(server.await_event("host-failed", count=4))
        started = time.monotonic()
        host = stack.enter_context(Host(replies, address=address, port=internet.port))
        eventually(lambda: len(host.stored) >= WAITING, what="all messages")
        seconds = time.monotonic() - started
        eventually(lambda: views(server) == [])
        assert len(host.stored) == WAITING
    show(
        f"{WAITING} messages for a host that was away",
        [
            f"{probes} attempts to connect while it was away",
            f"all taken {seconds:.1f} s after it was back",
            f"{host.connections} connections, {crowd.most} transactions at a time",
        ],
    )
    assert probes <= 10
    assert crowd.most <= CONNECTIONS
    assert host.connections <= 2 * CONNECTIONS
