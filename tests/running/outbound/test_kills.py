"""O1 to O3: kill -9 of deliverers, receivers and master in the midst of deliveries.

Every recipient of a message that got its 250 ends in exactly one of delivered, bounced and queued.
A copy too many is allowed only where the remote had taken the message and the deliverer was killed
before it could note that down.
"""

from __future__ import annotations

import os
import random
import re
import signal
import smtplib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.delivery.hosts import Host, Stored
from tests.figures import Show
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import OUTCOMES, views
from tests.running.program import Program, eventually

SECONDS = 9.0
"""For how long processes are killed."""
WINDOW = 0.2
"""Seconds between a remote's 250 and a deliverer's having noted it down, on a slow disk."""
PAUSES = (0.2, 0.7)
"""Seconds between two kills, at least and at most."""
CLIENTS = 3

ENDS = {"good1": "delivered", "good2": "delivered", "bad": "bounced", "later": "queued"}
"""Domains, and where their recipients are to end."""


@dataclass(slots=True)
class Sent:
    """What the clients know of their messages, each of which has a number."""

    accepted: set[int] = field(default_factory=set)
    unclear: set[int] = field(default_factory=set)  # the connection was lost after the final dot
    over: threading.Event = field(default_factory=threading.Event)
    errors: list[Exception] = field(default_factory=list)

    def run(self, port: int, numbers: Iterator[int]) -> None:
        """Be a client, until it is over."""
        try:
            while not self.over.wait(0.01):
                with suppress(OSError, smtplib.SMTPException):
                    self._talk(port, numbers)
        except Exception as error:
            self.errors.append(error)

    def _talk(self, port: int, numbers: Iterator[int]) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            client.ehlo("client.example.org")
            while not self.over.wait(0.01):
                number = next(numbers)
                self.unclear.add(number)
                client.mail(f"from{number}@home.test")
                for domain in ENDS:
                    client.rcpt(f"to{number}@{domain}.test")
                code, _ = client.data(b"Subject: %d\r\n\r\nHello\r\n" % number)
                if code == 250:
                    self.accepted.add(number)
                self.unclear.discard(number)


@dataclass(slots=True)
class Killer:
    """Kills processes of a server at random; a master is started again."""

    server: Program
    random: random.Random
    kills: list[tuple[float, str]] = field(default_factory=list)

    def run(self) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            _pause(self.random.uniform(*PAUSES))
            getattr(
                self,
                f"_{self.random.choice(['deliverer', 'deliverer', 'receiver', 'master', 'all'])}",
            )()

    def _deliverer(self) -> None:
        self._worker("deliverer")

    def _receiver(self) -> None:
        self._worker("receiver")

    def _worker(self, role: str) -> None:
        pids = self._pids(role)
        if pids:
            self._kill(self.random.choice(pids), role)

    def _master(self) -> None:
        self._kill(self.server.pid, "master")
        self.server.wait()
        self.server.start()

    def _all(self) -> None:
        for pid in self._pids(""):
            self._kill(pid, "all")
        self._master()

    def _kill(self, pid: int, what: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills.append((time.monotonic(), what))

    def _pids(self, role: str) -> list[int]:
        """Those of the workers that are there now."""
        there = set(self.server.workers())
        ready = self.server.events("worker-ready")
        return [
            each["pid"]
            for each in ready
            if each["worker"].startswith(role) and each["pid"] in there
        ]


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@dataclass(slots=True)
class Ends:
    """What became of the recipients: their copies in time order, bounces about them, the queue."""

    copies: dict[str, list[Stored]]
    bounces: dict[str, list[Stored]]
    queued: Counter[str]


def _ends(server: Program, hosts: dict[str, Host]) -> Ends:
    copies, bounces = defaultdict(list), defaultdict(list)
    for name in ENDS:
        for each in hosts[name].stored:
            for line in each.recipients:
                copies[_address(line)].append(each)
    for each in hosts["home"].stored:
        for found in re.findall(rb"^Final-Recipient: rfc822; ?(\S+)", each.octets, re.MULTILINE):
            bounces[found.decode("ascii")].append(each)
    queued = Counter(
        str(each.recipient.mailbox)
        for view in views(server)
        for each in view.entry.addressees
        if each.pending
    )
    return Ends(copies, bounces, queued)


def _address(line: bytes) -> str:
    found = re.search(rb"<([^>]*)>", line)
    assert found is not None
    return found[1].decode("ascii")


@pytest.mark.parametrize("seed", [1])
def test_every_recipient_ends_in_one_way(seed: int, tmp_path: Path, show: Show) -> None:
    internet = Internet()
    refusals = {"bad": b"550 5.1.1 no such user\r\n", "later": b"450 4.2.0 not now\r\n"}
    hosts = {}
    for name in ("home", *ENDS):
        address = internet.address()
        internet.domain(name, address)
        replies = {"RCPT": refusals[name]} if name in refusals else {}
        hosts[name] = Host(replies, address=address, port=internet.port)
    with ExitStack() as stack:
        for host in hosts.values():
            stack.enter_context(host)
        names = stack.enter_context(internet.name_server(tmp_path))
        server = outbound(
            tmp_path / "out",
            internet,
            names,
            workers={"processes": 2, "deliverers": 2},
            schedule={"retries": ["3 s"]},
            relay={"back_off": "200 ms"},
        )
        stack.enter_context(server)
        sent = _send_and_kill(server, killer := Killer(server, random.Random(seed)))
        eventually(lambda: _is_settled(server), what="all but what is refused for now")
        ends = _ends(server, hosts)
    show(f"Kills, seed {seed}", _judge(sent, ends, killer.kills))
    assert "Traceback" not in server.log_text()
    # What was noted is never done again.
    final = [event for event in server.events() if event["event"] in OUTCOMES - {"deferred"}]
    assert max(Counter((each["id"], each["recipient"]) for each in final).values()) == 1


def _send_and_kill(server: Program, killer: Killer) -> Sent:
    sent = Sent()
    numbers = iter(range(1_000_000))
    clients = [
        threading.Thread(target=sent.run, args=(server.port, numbers)) for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        killer.run()
    finally:
        sent.over.set()
        for client in clients:
            client.join()
    assert sent.errors == []
    return sent


def _is_settled(server: Program) -> bool:
    return all(view.entry.domain == "later.test" for view in views(server))


def _judge(sent: Sent, ends: Ends, kills: list[tuple[float, str]]) -> Iterator[str]:
    """See that all ended as they have to, and tell the counts."""
    of_deliverers = [at for at, what in kills if what in ("deliverer", "all")]
    gaps = []
    for number in sent.accepted | sent.unclear:
        for domain, end in ENDS.items():
            recipient = f"to{number}@{domain}.test"
            copies, bounces = ends.copies[recipient], ends.bounces[recipient]
            found = {"delivered": len(copies), "bounced": len(bounces)}
            found["queued"] = ends.queued[recipient]
            ways = {each for each, count in found.items() if count}
            assert ways == {end} or (number in sent.unclear and not ways), recipient
            assert ends.queued[recipient] <= 1
            # Two bounces with one Message-ID are one bounce that was delivered twice.
            assert len({_message_id(each) for each in bounces}) <= 1, recipient
            gaps += [
                min((abs(at - each.at) for at in of_deliverers), default=SECONDS)
                for each in (*copies[:-1], *bounces[:-1])
            ]
    assert max(gaps, default=0.0) < WINDOW
    yield f"messages: {len(sent.accepted)} accepted, {len(sent.unclear)} unclear"
    counts = Counter(end for end in ENDS.values() for _ in sent.accepted)
    yield "recipients: " + ", ".join(f"{count} {end}" for end, count in counts.items())
    yield "kills: " + ", ".join(f"{n} {what}" for what, n in Counter(w for _, w in kills).items())
    longest = f", {max(gaps):.3f} s from a kill at most" if gaps else ""
    yield f"copies too many: {len(gaps)}{longest}"


def _message_id(stored: Stored) -> bytes:
    found = re.search(rb"^Message-ID: (.*)$", stored.octets, re.MULTILINE)
    assert found is not None
    return found[1]
