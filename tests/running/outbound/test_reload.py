"""What HUP and TERM leave alone: mail that waits, and deliveries that are under way."""

from __future__ import annotations

import signal
import smtplib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.delivery.hosts import Host
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import Gate, outcome, outcomes, submit, transact, views, waiting
from tests.running.program import PATIENCE, Program, eventually


@dataclass(frozen=True, slots=True)
class Site:
    """A server; a host that takes mail at once, and one that first waits at the gate."""

    server: Program
    polite: Host
    slow: Host
    gate: Gate


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    internet = Internet()
    addresses = [internet.address() for _ in range(2)]
    internet.domain("polite", addresses[0])
    internet.domain("slow", addresses[1])
    internet.domain("down", internet.address())
    gate = Gate()
    with ExitStack() as stack:
        polite = stack.enter_context(Host(address=addresses[0], port=internet.port))
        slow = stack.enter_context(Host({".": gate}, address=addresses[1], port=internet.port))
        names = stack.enter_context(internet.name_server(tmp_path))
        schedule = {"timeouts": {"final_dot": f"{PATIENCE:.0f} s"}}
        server = outbound(tmp_path / "out", internet, names, schedule=schedule)
        stack.enter_context(server)
        stack.callback(gate.open.set)
        yield Site(server, polite, slow, gate)
    assert "Traceback" not in server.log_text() + server.errors.read_text()


def reload(server: Program) -> None:
    """HUP, and wait until none but the new receivers take connections."""
    generations = len(server.events("generation-ready"))
    server.signal(signal.SIGHUP)
    server.await_event("generation-ready", count=generations + 1)
    old = generations * server.sections["workers"]["processes"]
    eventually(lambda: _receivers_left(server) == old, what="the old receivers leave")


def _receivers_left(server: Program) -> int:
    return sum(event["worker"].startswith("receiver") for event in server.events("worker-left"))


def test_reload_leaves_what_waits_and_what_is_under_way(site: Site) -> None:
    server = site.server
    submit(server, "bob@down.test")
    (before,) = waiting(server, 1)
    submit(server, "bob@slow.test")
    assert site.gate.reached.wait(PATIENCE)
    reload(server)
    (after,) = waiting(server, 1, domain="down.test")
    assert after == before
    # The new deliverers leave to the old what these are at.
    submit(server, "bob@polite.test")
    assert outcome(server, "bob@polite.test")["event"] == "delivered"
    assert outcomes(server, "bob@slow.test") == []
    site.gate.open.set()
    assert outcome(server, "bob@slow.test")["event"] == "delivered"
    server.await_event("generation-left")
    assert len(site.slow.stored) == site.slow.connections == 1
    assert site.slow.verbs[-1] == "QUIT"


def test_changed_limits_count_for_the_next_message_and_the_next_attempt(site: Site) -> None:
    server = site.server
    recipients = [f"{name}@polite.test" for name in ("bob", "carol", "dave")]
    submit(server, *recipients)
    eventually(lambda: len(site.polite.stored) == 1)
    server.reconfigure(relay={"recipients": 1}, limits={"message_size": "1 KiB"})
    reload(server)
    submit(server, *recipients)
    eventually(lambda: len(site.polite.stored) == 4, what="a transaction for each")
    with pytest.raises(smtplib.SMTPDataError, match=r"5\.3\.4"):
        _sendmail(server, b"Subject: large\r\n\r\n" + b"x" * 2000)


def _sendmail(server: Program, message: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE) as client:
        client.helo("client.example.org")
        client.sendmail("sender@home.test", ["bob@polite.test"], message)


def test_faulty_configuration_leaves_the_old_one(site: Site) -> None:
    site.server.reconfigure(listen={"smtp": ["192.0.2.1:25"]})
    site.server.signal(signal.SIGHUP)
    (failed,) = site.server.await_event("reload-failed")
    assert "192.0.2.1" in failed["reason"]
    submit(site.server, "bob@polite.test")
    assert outcome(site.server, "bob@polite.test")["event"] == "delivered"


def test_reloads_under_load_lose_nothing_and_keep_nothing_waiting(site: Site) -> None:
    over = threading.Event()
    sent = Counter[str]()
    failures = list[Exception]()

    def load(name: str) -> None:
        while not over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", site.server.port, timeout=PATIENCE) as client:
                    client.ehlo("client.example.org")
                    recipient = f"{name}{sent[name]}@polite.test"
                    transact(client, recipient)
                    sent[name] += 1
            except smtplib.SMTPServerDisconnected:
                continue  # a session that the reload ends before its transaction
            except (AssertionError, OSError) as error:
                if "4.3.2" not in str(error):
                    failures.append(error)

    clients = [threading.Thread(target=load, args=(name,)) for name in ("a", "b")]
    for client in clients:
        client.start()
    try:
        for _ in range(6):
            reload(site.server)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert failures == []
    eventually(lambda: len(site.polite.stored) >= sent.total(), within=10, what="all messages")
    eventually(lambda: views(site.server) == [], within=10)
    taken = Counter(each.recipients[0] for each in site.polite.stored)
    assert max(taken.values()) == 1
    assert site.server.events("deferred") == []


def test_p4_term_ends_what_is_under_way_and_leaves_the_rest_to_the_next(site: Site) -> None:
    server = site.server
    submit(server, "bob@down.test")
    waiting(server, 1)
    submit(server, "bob@slow.test")
    assert site.gate.reached.wait(PATIENCE)
    server.signal(signal.SIGTERM)
    server.await_event("stopping")
    site.gate.open.set()
    assert server.wait() == 0
    assert outcome(server, "bob@slow.test")["event"] == "delivered"
    assert [view.entry.domain for view in views(server)] == ["down.test"]
    server.start()
    submit(server, "carol@slow.test")
    assert outcome(server, "carol@slow.test")["event"] == "delivered"
    assert len(site.slow.stored) == 2
    assert [view.entry.domain for view in views(server)] == ["down.test"]


def test_two_servers_do_not_share_a_queue(site: Site, tmp_path: Path) -> None:
    queue = {"directory": str(site.server.directory / "queue")}
    second = Program.outbound(tmp_path / "second", queue=queue)
    second.start(ready=False)
    assert second.wait() == 1
    said = second.errors.read_text()
    assert f"is in use by the server with process id {site.server.pid}" in said
    assert "Traceback" not in said
    submit(site.server, "bob@polite.test")
    assert outcome(site.server, "bob@polite.test")["event"] == "delivered"
