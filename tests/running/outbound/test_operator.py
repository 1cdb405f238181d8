"""`pfsmtp -c FILE queue …` while the server runs, and while it does not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.delivery.hosts import Host
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import Gate, outcome, queue, sendmail, submit, views, waiting
from tests.running.program import PATIENCE, Program, eventually


@dataclass(frozen=True, slots=True)
class Site:
    """A server; `bob@away.test` waits for `away` to be started; `gated` answers when told."""

    server: Program
    away: Host
    gated: Host
    gate: Gate
    home: Host

    def queue(self, *arguments: str) -> str:
        return queue(self.server, *arguments)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    internet = Internet()
    addresses = {name: internet.address() for name in ("away", "gated", "home")}
    for name, address in addresses.items():
        internet.domain(name, address)
    gate = Gate(b"450 4.2.0 not now\r\n")
    away, gated, home = (
        Host(replies, address=addresses[name], port=internet.port)
        for name, replies in (("away", {}), ("gated", {".": gate}), ("home", {}))
    )
    with ExitStack() as stack:
        stack.enter_context(gated)
        stack.enter_context(home)
        names = stack.enter_context(internet.name_server(tmp_path))
        schedule = {"timeouts": {"final_dot": f"{PATIENCE:.0f} s"}}
        server = outbound(
            tmp_path / "out",
            internet,
            names,
            relay={"back_off": "100 ms"},
            schedule=schedule,
        )
        stack.enter_context(server)
        stack.callback(gate.open.set)
        submit(server, "bob@away.test")
        waiting(server, 1)
        yield Site(server, away, gated, gate, home)


def test_list_says_why_it_waits(site: Site) -> None:
    why = "mx1-away.test could not be reached (connection refused)"
    assert why in site.queue("list")
    (unit,) = json.loads(f"[{','.join(site.queue('list', '--json').splitlines())}]")
    assert why in json.dumps(unit)
    assert "away.test" in site.queue("summary")
    listed = sendmail(site.server, "-bp", octets=b"")
    assert why.encode() in listed.stdout


def test_o8_looking_changes_nothing(site: Site) -> None:
    """Also while nothing runs."""
    (view,) = views(site.server)
    site.server.stop()
    queue = site.server.directory / "queue"

    def state() -> dict[Path, tuple[bytes, float]]:
        return {
            path: (path.read_bytes(), path.stat().st_mtime)
            for path in queue.glob("**/*")
            if path.is_file()
        }

    before = state()
    assert "away.test" in site.queue("list")
    assert "connection refused" in site.queue("show", view.entry.id)
    assert "away.test" in site.queue("summary")
    assert state() == before


def test_retry_tries_at_once(site: Site) -> None:
    with site.away:
        site.queue("retry", "--destination", "away.test")
        assert outcome(site.server, "bob@away.test", attempt=2)["event"] == "delivered"


def test_what_is_held_is_not_tried_until_it_is_released(site: Site) -> None:
    with site.away:
        site.queue("hold", "--all")
        eventually(lambda: views(site.server)[0].condition.value == "held")
        site.queue("retry", "--all")
        submit(site.server, "carol@away.test")
        outcome(site.server, "carol@away.test")
        assert len(site.away.stored) == 1
        site.queue("release", "--all")
        site.queue("retry", "--all")
        assert outcome(site.server, "bob@away.test", attempt=2)["event"] == "delivered"


def test_bounced_by_the_operator_is_told_to_the_sender(site: Site) -> None:
    site.queue("bounce", "--recipient", "bob@away.test")
    eventually(lambda: len(site.home.stored) == 1, what="a bounce")
    assert b"Final-Recipient: rfc822;bob@away.test" in site.home.stored[0].octets
    eventually(lambda: views(site.server) == [], what="an empty queue")


def test_what_the_operator_does_is_in_the_servers_log(site: Site) -> None:
    """Whether or not it runs."""
    (view,) = views(site.server)
    site.queue("hold", view.entry.id)
    eventually(lambda: len(site.server.events("queue-steered")) == 1, what="the hold in the log")
    site.server.stop()
    site.queue("delete", "--all")
    site.server.start()
    eventually(lambda: len(site.server.events("queue-steered")) == 2, what="the rest in the log")
    for event, command in zip(site.server.events("queue-steered"), ("hold", "delete"), strict=True):
        assert (event["command"], event["id"]) == (command, view.entry.id)
        assert (event["recipients"], event["uid"]) == (["bob@away.test"], os.getuid())


def test_o8_deleting_beats_an_attempt_that_is_under_way(site: Site) -> None:
    id = submit(site.server, "bob@gated.test")
    assert site.gate.reached.wait(PATIENCE)
    site.queue("delete", id)
    site.gate.open.set()
    eventually(lambda: views(site.server, domain="gated.test") == [], what="it is gone")
    site.queue("retry", "--all")
    submit(site.server, "carol@gated.test")
    outcome(site.server, "carol@gated.test")
    recipients = [line for line in site.gated.commands[0] if line.startswith(b"RCPT")]
    assert len(recipients) == 2
    assert site.home.stored == []
    assert site.server.events("notice-queued") == []
