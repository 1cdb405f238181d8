"""The operator against a running server that leaves a destination alone, for an hour."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pfsmtp.mailqueue import resting
from tests.delivery.hosts import Host
from tests.mailqueue.test_window import snapshot
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import outcome, queue, submit, waiting
from tests.running.program import PATIENCE, ROOT, Program, eventually

REFUSED = "mx1-away.test could not be reached (connection refused)"


@dataclass(frozen=True, slots=True)
class Site:
    """A server with mail for bob@away.test, whose host is `away` until it is started."""

    server: Program
    away: Host

    def __call__(self, *arguments: str) -> str:
        return queue(self.server, *arguments)

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self("list", "--json", *arguments).splitlines()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    internet = Internet()
    address = internet.address()
    internet.domain("away", address)
    with ExitStack() as stack:
        names = stack.enter_context(internet.name_server(tmp_path / "names"))
        server = stack.enter_context(
            outbound(tmp_path / "out", internet, names, relay={"back_off": "1 h"})
        )
        submit(server, "bob@away.test")
        waiting(server, 1)
        yield Site(server, Host({}, address=address, port=internet.port))


def settled(site: Site, count: int) -> list[dict[str, Any]]:
    """What is in the queue, once it is known how long the destination is left alone."""
    found: list[dict[str, Any]] = []

    def is_so() -> bool:
        found[:] = site.objects()
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1800))
        return len(found) == count and all(each["next"] > soon for each in found)

    eventually(is_so, what=f"{count} waiting in {found}")
    return found


def test_mail_that_comes_meanwhile_waits_with_the_rest_and_says_why(site: Site) -> None:
    id = submit(site.server, "carol@away.test")
    (carol,) = [each for each in settled(site, 2) if each["id"] == id]
    assert carol["attempts"] == 0
    assert REFUSED in carol["why"]


def a_second_after_the_failure(site: Site) -> None:
    """A failure as young as that is believed in, whoever asks for another attempt."""
    last = site.server.events("host-failed")[-1]["ts"]
    failed = datetime.fromisoformat(last.replace("Z", "+00:00")).timestamp()
    eventually(lambda: time.time() > failed + 1.1)


def test_o6_retry_tries_a_host_that_is_left_alone_once(site: Site) -> None:
    submit(site.server, "carol@away.test")
    settled(site, 2)
    a_second_after_the_failure(site)
    assert site("retry", "--all") == "2 messages due now\n"
    eventually(lambda: len(site.server.events("host-failed")) == 2)
    settled(site, 2)
    assert len(site.server.events("host-failed")) == 2
    a_second_after_the_failure(site)
    with site.away:
        site("retry", "--destination", "away.test")
        eventually(lambda: site.objects() == [])
        assert len(site.away.stored) == 2


def test_bounce_does_not_wait_for_the_host(site: Site) -> None:
    settled(site, 1)
    submit(site.server, "carol@away.test", sender="")
    settled(site, 2)
    assert site("bounce", "--all") == "2 messages given up\n"
    eventually(lambda: site.objects("--destination", "away.test") == [])
    (queued,) = site.server.await_event("notice-queued")
    assert queued["to"] == "sender@home.test"
    (forgone,) = site.server.await_event("notice-forgone")
    assert forgone["recipients"] == ["carol@away.test"]


def test_o8_looking_changes_nothing_while_the_server_runs(site: Site) -> None:
    (bob,) = settled(site, 1)
    directory = site.server.directory / "queue"
    eventually(lambda: "away.test" in resting.read(directory, time.time()))
    before = snapshot(directory)
    for arguments in (["list"], ["list", "--json"], ["summary"], ["show", bob["id"], "--body"]):
        assert "away.test" in site(*arguments)
    assert snapshot(directory) == before


@pytest.mark.parametrize("mode", ["-bp", "-q", "-qRaway.test"])
def test_sendmail_does_what_concerns_the_queue(site: Site, mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pfsmtp", "-c", site.server.config, "sendmail", mode],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = REFUSED if mode == "-bp" else "1 message due now\n"
    assert expected in done.stdout


def test_retry_brings_what_was_held_back_to_life(site: Site) -> None:
    (bob,) = settled(site, 1)
    site("hold", bob["id"])
    a_second_after_the_failure(site)
    with site.away:
        assert site("retry", bob["id"]) == "1 message due now\n"
        assert outcome(site.server, "bob@away.test", attempt=2)["event"] == "delivered"
