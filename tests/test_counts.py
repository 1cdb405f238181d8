"""What a message costs, in counts that no noise touches: system calls, by name.

A client sends one message after the other to a server with one worker of each kind; strace counts
what the workers do. The counts are compared with those in `counts.json`, calls that touch the disk
exactly, others with a little room. Who has made a message cheaper, or dearer for a reason, records
them anew and commits them:

    RECORD_COUNTS=1 pytest tests/test_counts.py tests/test_instructions.py

Which thread gets a lock first is chance, so calls about locks, threads and memory are left out.
"""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests import needs
from tests.running.program import Program, eventually

RECORDED = Path(__file__).with_name("counts.json")
MESSAGES = 100
WARM_UP = 20
MESSAGE = "Subject: counted\r\nMessage-ID: <1@example.net>\r\nDate: x\r\n\r\n" + 16 * (
    "x" * 62 + "\r\n"
)

ON_DISK = ("fsync", "fdatasync", "renameat2", "openat", "pwritev", "writev", "unlinkat", "linkat")
"""Compared exactly."""
CHANCE = re.compile(
    "futex|restart_syscall|m(un)?map|mremap|mprotect|madvise|brk|clone3?|gettid|sched_.*|"
    "rt_sig.*|sigaltstack|set_robust_list|rseq|exit|prctl"
)
ROOM = 0.25  # calls a message: the main thread of a worker ticks meanwhile

Counts = dict[str, float]
Send = Callable[[int], None]


RECORDING = bool(os.environ.get("RECORD_COUNTS"))


class Remote:
    """A mail host that answers each group of commands at once: nothing is left to chance."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.taken = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(b"220 remote\r\n")
        received = b""
        while more := connection.recv(65536):
            received += more
            reply = self._reply(received)
            if reply:
                received = b""
                connection.sendall(reply)

    def _reply(self, received: bytes) -> bytes:
        if received.endswith(b"DATA\r\n"):
            return b"250 ok\r\n" * (received.count(b"\r\n") - 1) + b"354 go on\r\n"
        if received.endswith(b"\r\n.\r\n"):
            self.taken += 1
            return b"250 taken\r\n"
        if received.startswith(b"EHLO "):
            return b"250-remote\r\n250 PIPELINING\r\n"
        return b""


@contextmanager
def strace(pids: list[int], output: Path) -> Iterator[None]:
    """Count the system calls of these processes."""
    command = [needs.tool("strace"), "-f", "-c", "-o", str(output)]
    with subprocess.Popen(
        [*command, *(f"-p{pid}" for pid in pids)], stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(
            lambda: process.poll() is not None or all(map(_is_traced, pids)), what="strace attaches"
        )
        if process.poll() is not None:
            needs.lacking(f"strace may not trace here: {process.communicate()[1].strip()}")
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def _is_traced(pid: int) -> bool:
    """Whether all threads are."""
    return all(
        "TracerPid:\t0" not in (task / "status").read_text()
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def calls_a_message(output: Path) -> Counts:
    """What strace has counted, but for what is chance."""
    calls: Counter[str] = Counter()
    for line in output.read_text().splitlines():
        # % time, seconds, usecs/call, calls, perhaps errors, name
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and not CHANCE.fullmatch(fields[-1]):
            calls[fields[-1]] += int(fields[3])
    del calls["total"]
    return {name: count / MESSAGES for name, count in sorted(calls.items())}


def send_inbound(port: int, count: int, *, reuse: bool) -> None:
    """Send so many messages to a user, over one connection, or each over its own."""
    client = smtplib.SMTP("127.0.0.1", port)
    for number in range(count):
        if number and not reuse:
            client.quit()
            client = smtplib.SMTP("127.0.0.1", port)
        client.sendmail("a@example.net", ["alice@example.org"], MESSAGE)
    client.quit()


def send_outbound(server: Program, remote: Remote, count: int) -> None:
    """Send so many messages to another host, each when the one before has arrived there."""
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        for _ in range(count):
            goal = len(server.events("delivered")) + 1
            client.sendmail("a@example.net", ["b@[127.0.0.1]"], MESSAGE)
            eventually(lambda goal=goal: len(server.events("delivered")) == goal)  # type: ignore[misc]
    assert remote.taken == len(server.events("delivered"))


def outbound_program(directory: Path, remote: Remote) -> Program:
    """A server whose messages all go to `remote`, over a connection that it keeps."""
    relay = {"port": remote.port, "messages": 10_000}
    return Program.outbound(directory, workers={"processes": 1}, relay=relay)


@contextmanager
def inbound(tmp_path: Path, *, reuse: bool) -> Iterator[tuple[Program, Send]]:
    """A server with one worker, and what sends it so many messages."""
    with Program.inbound(tmp_path, workers={"processes": 1}) as server:
        yield server, lambda count: send_inbound(server.port, count, reuse=reuse)


@contextmanager
def outbound(tmp_path: Path) -> Iterator[tuple[Program, Send]]:
    """A server with a receiver and a deliverer; each message arrives before the next is sent."""
    with Remote() as remote, outbound_program(tmp_path, remote) as server:
        yield server, lambda count: send_outbound(server, remote, count)


SCENARIOS = {
    "inbound, one connection": lambda path: inbound(path, reuse=True),
    "inbound, a connection each": lambda path: inbound(path, reuse=False),
    "outbound, submitted and delivered": outbound,
}


def recorded() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(RECORDED.read_text())
    return found


def record(title: str, counts: Counts) -> None:
    known = recorded() if RECORDED.exists() else {}
    RECORDED.write_text(json.dumps(known | {title: counts}, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize("title", SCENARIOS)
def test_message_takes_the_system_calls_that_are_recorded(title: str, tmp_path: Path) -> None:
    output = tmp_path / "strace"
    with SCENARIOS[title](tmp_path) as (server, send):
        send(WARM_UP)
        with strace(server.workers(), output):
            send(MESSAGES)
    counts = calls_a_message(output)
    if title.startswith("inbound"):
        # How much waits for the disks is asked by the clock, and at most once a message.
        assert counts.pop("pread64", 0) <= 1
    if RECORDING:
        record(title, {name: count for name, count in counts.items() if count > ROOM})
    expected = recorded()[title]
    assert {name: counts.get(name, 0) for name in ON_DISK} == {
        name: expected.get(name, 0) for name in ON_DISK
    }
    for name in sorted(counts.keys() | expected.keys()):
        assert counts.get(name, 0) == pytest.approx(expected.get(name, 0), abs=ROOM), name
