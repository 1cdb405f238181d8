"""I1 and I3: kill -9 of workers, and of everything, in the midst of many deliveries.

What was acknowledged is there once for each recipient. What was not is there once at most. And
whatever is in `new/`, at any moment, is whole.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.corpus import on_the_wire
from tests.figures import Show
from tests.running.mail import as_sent
from tests.running.program import Program, Talk, eventually

SECONDS = 3.0
"""For how long workers are killed, one after the other."""
PAUSES = (0.05, 0.4)
"""Seconds between two kills, at least and at most."""
CLIENTS = 6
SIZES = (200, 200, 200, 5_000, 5_000, 100_000, 1_500_000)
"""Octets of messages; the last go to the disk while they come in."""
LOGINS = ("alice", "bob")


@dataclass(slots=True)
class Mail:
    """What the clients have sent, and what was said to it: numbers of messages."""

    recipients: dict[int, tuple[str, ...]] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def send(self, port: int, numbers: Iterator[int], choice: random.Random) -> None:
        """Be a client whose connections are broken again and again, until it is over."""
        try:
            while not self.over.wait(0.005):
                with suppress(OSError, AssertionError), Talk(port) as client:
                    client.greet()
                    for _ in range(5):
                        self._send_one(client, next(numbers), choice)
        except Exception as error:
            self.errors.append(error)

    def _send_one(self, client: Talk, number: int, choice: random.Random) -> None:
        logins = LOGINS if choice.random() < 0.3 else (choice.choice(LOGINS),)
        client.envelope(*(f"{login}@example.org" for login in logins))
        self.recipients[number] = logins
        client.send(on_the_wire(make_message(number, choice.choice(SIZES))))
        if client.hear().startswith("250"):
            self.acknowledged.add(number)


def make_message(number: int, size: int) -> bytes:
    """A message that says its number, and by which it can be told that it is whole."""
    line = b".%d " % number + 60 * b"x" + b"\r\n"
    text = line * (size // len(line) + 1)
    return b"Subject: %d %s\r\n\r\n" % (number, sha256(text).hexdigest().encode()) + text


def number_of(stored: bytes) -> int:
    """The number of a stored message; raises when it is not whole."""
    header, _, text = as_sent(stored).partition(b"\r\n\r\n")
    _, number, digest = header.split(b" ")
    assert sha256(text).hexdigest().encode() == digest
    return int(number)


class Watch:
    """Looks into `new/` all the time, and at each file as soon as it is there."""

    def __init__(self, server: Program) -> None:
        self.found: Counter[tuple[int, str]] = Counter()
        self.faults: list[str] = []
        self._server = server
        self._seen: set[Path] = set()

    def look(self) -> None:
        for login in LOGINS:
            with suppress(FileNotFoundError):
                for path in (self._server.maildir(login) / "new").iterdir():
                    if path not in self._seen:
                        self._seen.add(path)
                        self._check(path, login)

    def _check(self, path: Path, login: str) -> None:
        try:
            self.found[number_of(path.read_bytes()), login] += 1
        except (AssertionError, ValueError) as error:
            self.faults.append(f"{path.name}: {error!r}")


@contextmanager
def load(mail: Mail, watch: Watch, port: int) -> Iterator[None]:
    """Send, and look, all the while."""
    numbers = iter(range(10_000_000))
    threads = [
        threading.Thread(target=mail.send, args=(port, numbers, random.Random(seed)))
        for seed in range(CLIENTS)
    ]

    def keep_looking() -> None:
        while not mail.over.wait(0.002):
            watch.look()

    threads.append(threading.Thread(target=keep_looking))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        mail.over.set()
        for thread in threads:
            thread.join()


def kill_workers(server: Program, choice: random.Random) -> int:
    """Kill one worker after the other for a while; returns how many."""
    killed = 0
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        time.sleep(choice.uniform(*PAUSES))
        if workers := server.workers():
            with suppress(ProcessLookupError):
                os.kill(choice.choice(workers), signal.SIGKILL)
                killed += 1
    return killed


def assert_accounted_for(mail: Mail, watch: Watch) -> None:
    """Each message once where it was acknowledged, once at most where not, nowhere else."""
    watch.look()
    assert watch.faults == []
    assert mail.errors == []
    wrong = []
    for number, logins in mail.recipients.items():
        acknowledged = number in mail.acknowledged
        for login in LOGINS:
            copies = watch.found.pop((number, login), 0)
            most = login in logins
            if not (most and acknowledged) <= copies <= most:
                wrong.append((number, login, acknowledged, copies))
    assert wrong == []
    assert not watch.found


def test_i1_i3_killed_workers_lose_nothing_and_show_nothing_partial(
    inbound: Program, show: Show
) -> None:
    mail, watch = Mail(), Watch(inbound)
    with load(mail, watch, inbound.port):
        killed = kill_workers(inbound, random.Random(1))
        # Those who come now are served as ever.
        eventually(lambda: len(inbound.workers()) == 2)
        await_more(mail, CLIENTS)
    assert killed > 3
    assert_accounted_for(mail, watch)
    show("kill -9 of workers", [figures(mail, killed)])


def test_i1_i3_everything_killed_loses_nothing_and_shows_nothing_partial(
    tmp_path: Path, show: Show
) -> None:
    rounds = 4
    server = Program.inbound(tmp_path)
    mail, watch = Mail(), Watch(server)
    with server, load(mail, watch, server.port):
        for _ in range(rounds):
            await_more(mail, 30)
            server.kill()
            server.start()
    assert_accounted_for(mail, watch)
    show("kill -9 of all processes", [figures(mail, rounds)])


def await_more(mail: Mail, count: int) -> None:
    before = len(mail.acknowledged)
    eventually(lambda: len(mail.acknowledged) > before + count)


def figures(mail: Mail, kills: int) -> str:
    unclear = len(mail.recipients) - len(mail.acknowledged)
    return f"{kills} kills, {len(mail.acknowledged)} messages acknowledged, {unclear} not"
