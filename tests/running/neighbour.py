"""A well-behaved client: what a server is for, while others do as they please.

    with Neighbour(server.port) as neighbour:
        …
    neighbour.served

It is a process of its own, so that what a test does meanwhile does not slow it, and sends message
after message, each on a new connection, at an even pace. Its figures are the share of its messages
that were accepted, and how long they took from the connection to the 250.
"""

from __future__ import annotations

import json
import select
import smtplib
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Self

from tests.running.program import PATIENCE, ROOT

PACE = 0.05
"""Seconds from one message to the next."""
MESSAGE = b"Subject: as ever\r\n\r\nIn peace\r\n"


@dataclass(frozen=True, slots=True)
class Served:
    """What became of its messages."""

    seconds: list[float]
    """How long each took that was accepted."""
    failures: list[str]

    @property
    def share(self) -> float:
        return len(self.seconds) / max(1, len(self.seconds) + len(self.failures))

    @property
    def p99(self) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

    def __str__(self) -> str:
        sent = len(self.seconds) + len(self.failures)
        return f"{self.share:.1%} of {sent} messages accepted, p99 {1000 * self.p99:.0f} ms"


class Neighbour:
    """Sends while the block lasts, and has sent one message before it begins."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", prefix: tuple[str, ...] = ()) -> None:
        command = [*prefix, sys.executable, "-m", __name__, host, str(port)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.served = Served([], [])

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        said, _unused = self._process.communicate(timeout=2 * PATIENCE)
        if kind is None:
            self.served = Served(**json.loads(said))


def deliver(host: str, port: int) -> None:
    with smtplib.SMTP(host, port, timeout=PATIENCE) as client:
        client.sendmail("neighbour@example.net", ["bob@example.org"], MESSAGE)


def main(host: str, port: int) -> None:
    """Send until stdin ends."""
    seconds: list[float] = []
    failures: list[str] = []
    deliver(host, port)
    print("begun", flush=True)
    ends = False
    while not ends or not seconds:
        started = time.monotonic()
        try:
            deliver(host, port)
            seconds.append(time.monotonic() - started)
        except (smtplib.SMTPException, OSError) as error:
            failures.append(repr(error))
        pause = max(0.0, started + PACE - time.monotonic())
        ends = bool(select.select([sys.stdin], [], [], pause)[0])
    print(json.dumps({"seconds": seconds, "failures": failures}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
