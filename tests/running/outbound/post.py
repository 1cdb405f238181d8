"""Putting mail into a running outbound server, and seeing what becomes of it."""

from __future__ import annotations

import re
import smtplib
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from itertools import count
from typing import Any

from pfsmtp.config import Outbound, load
from pfsmtp.mailqueue.entry import Condition, Selection, View
from pfsmtp.mailqueue.spool import Spool
from tests.delivery.hosts import Talk
from tests.running.program import PATIENCE, ROOT, Event, Program, eventually

SENDER = "sender@home.test"
MESSAGE = b"From: sender@home.test\r\nSubject: hello\r\n\r\nHello\r\n"
OUTCOMES = frozenset({"delivered", "deferred", "failed"})

_ID = re.compile(rb"[0-9A-F]{16}")


def submit(server: Program, *recipients: str, **more: Any) -> str:
    """Have the server take a message, and return its id; `more` is as of `transact`."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE) as client:
        client.ehlo("client.example.org")
        return transact(client, *recipients, **more)


def transact(
    client: smtplib.SMTP,
    *recipients: str,
    sender: str = SENDER,
    message: bytes = MESSAGE,
    options: Sequence[str] = (),
    wishes: Sequence[str] = (),
) -> str:
    """Send a message and return its id; `options` are the parameters of MAIL, `wishes` of RCPT."""
    code, said = client.mail(sender, options)
    assert code == 250, said
    for recipient in recipients:
        code, said = client.rcpt(recipient, wishes)
        assert code == 250, said
    code, said = client.data(message)
    assert code == 250, said
    found = _ID.search(said)
    assert found is not None, said
    return found[0].decode("ascii")


def sendmail(server: Program, *arguments: str, octets: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run `pfsmtp sendmail` against the server."""
    return subprocess.run(
        [sys.executable, "-m", "pfsmtp", "-c", str(server.config), "sendmail", *arguments],
        input=octets,
        capture_output=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        timeout=PATIENCE,
    )


def queue(server: Program, *arguments: str) -> str:
    """Run `pfsmtp queue` for the server's queue, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "pfsmtp", "-c", str(server.config), "queue", *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def outcomes(server: Program, recipient: str) -> list[Event]:
    """What became of a recipient in each attempt so far."""
    return [
        event
        for event in server.events()
        if event["event"] in OUTCOMES and event["recipient"] == recipient
    ]


def outcome(server: Program, recipient: str, *, attempt: int = 1) -> Event:
    """Wait for what becomes of a recipient in an attempt."""
    eventually(
        lambda: len(outcomes(server, recipient)) >= attempt,
        what=f"attempt {attempt} for {recipient}",
    )
    return outcomes(server, recipient)[attempt - 1]


def views(server: Program, **selection: Any) -> list[View]:
    """What is in the queue, as the operator is shown it."""
    with closing(spool(server)) as queue:
        return list(queue.views(Selection(**selection)))


def waiting(server: Program, units: int, **selection: Any) -> list[View]:
    """Wait until so many units are in the queue, all tried before and none at work."""
    found: list[View] = []

    def is_so() -> bool:
        found[:] = views(server, **selection)
        return len(found) == units and all(
            view.condition is not Condition.ACTIVE and view.entry.attempts for view in found
        )

    eventually(is_so, what=f"{units} units that wait")
    return found


def spool(server: Program) -> Spool:
    """The queue, as a process of the operator's has it."""
    config = load(server.config)
    assert isinstance(config, Outbound)
    return Spool(config.queue.directory, deliverers=1, log=_Silence(), number=count().__next__)


class Gate:
    """What a host replies to the final dot, but not before it is opened."""

    def __init__(self, reply: bytes = b"250 2.0.0 stored\r\n") -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self._reply = reply

    def __call__(self, talk: Talk) -> None:
        self.reached.set()
        self.open.wait(PATIENCE)
        talk.say(self._reply)


class _Silence:
    def event(self, name: str, /, **fields: object) -> None:
        """Whoever only looks has nothing to log."""
