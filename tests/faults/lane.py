"""What the lanes have in common: a server, its log as it grows, workers that come and go."""

from __future__ import annotations

import itertools
import json

from tests.faults.injection import Fault, Injection
from tests.faults.matrix import Tally
from tests.running.program import Event, Program, eventually

_PARDONED = 4
"""Workers that die one after the other and are replaced at once."""


def message(name: str, size: int) -> bytes:
    """A message that can be told from all others, and in which no octet can be missing."""
    label = name.encode()
    octets = [b"Subject: %s\r\n\r\n" % label]
    for number in range(size // 900):
        octets.append((b"%d of %s" % (number, label)).ljust(898, b"-") + b"\r\n")
    octets.append(b"the end of %s\r\n" % label)
    return b"".join(octets)


class ServerLane:
    """A running server and what is counted of it."""

    def __init__(self, server: Program, tally: Tally, lane: int) -> None:
        self.server = server
        self.tally = tally
        self._lane = lane
        self._numbers = itertools.count(1)
        self._deaths = 0
        server.start()

    def new_name(self) -> str:
        """A name that no other message has."""
        return f"{self._lane}-{next(self._numbers)}"

    def worker(self, role: str) -> int:
        """The pid of the one worker of a role, once it is ready."""
        found: list[int] = []

        def ready() -> bool:
            # A pid may have been another worker's before.
            names = {event["pid"]: event["worker"] for event in self.logged(0, "worker-ready")}
            found[:] = [pid for pid in self.server.workers() if names.get(pid, "").startswith(role)]
            return len(found) == 1

        eventually(ready, what=f"a {role}")
        return found[0]

    def injection(self, pid: int, *faults: Fault) -> Injection:
        return Injection(pid, *faults, record=self.server.directory / "strace")

    def log_size(self) -> int:
        return self.server.log.stat().st_size

    def logged(self, start: int, *names: str) -> list[Event]:
        """The events of these names from there on, without lines that were cut."""
        with self.server.log.open("rb") as log:
            log.seek(start)
            octets = log.read()
        marks = [f'"event":"{name}"'.encode() for name in names]
        return [
            json.loads(line)
            for line in octets.splitlines()
            if line.endswith(b"}") and any(mark in line for mark in marks)
        ]

    def count(self, fault: Fault, times: int, reply: str) -> None:
        """Count a case."""
        tally = self.tally
        tally.cases += 1
        tally.faults_injected += times
        tally.processes_killed += fault.kills
        tally.acknowledged += reply.startswith("250")
        tally.refused_for_now += reply.startswith("4")
        tally.connections_lost += reply == ""

    def check_worker(self, role: str, pid: int, fault: Fault | None) -> None:
        """See that a worker lives that has not been killed."""
        said = self.server.errors.read_text()
        if "Traceback" in said:
            self.server.errors.write_text("")  # it is held against this case, and no other
            raise AssertionError(said)
        if fault is None or not fault.kills:
            assert pid in self.server.workers(), f"the {role} has died"
            return
        self._deaths += 1
        if self._deaths % _PARDONED == 0:
            self.server.stop()
            self.server.start()

    def close(self) -> None:
        self.server.stop()
