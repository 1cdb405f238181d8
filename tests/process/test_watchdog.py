"""Signs of life to the service manager, as long as there are any, on a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import needs
from tests.process.running import PATIENCE, Running, eventually, running

EVERY = 0.1
TIMING = {"beat": 0.05, "stuck": 4.0, "quit": 1.0, "backoff_limit": 2.0}


class Manager:
    """Who is told."""

    def __init__(self, channel: socket.socket, path: str) -> None:
        self._channel = channel
        self.environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": f"{4 * EVERY * 1e6:.0f}"}

    def hear(self, wanted: bytes, *, times: int = 1) -> None:
        """Wait until this has been told so often from now on."""
        self._channel.settimeout(PATIENCE)
        while times:
            times -= self._channel.recv(4096).startswith(wanted)

    def hear_status(self, wanted: str) -> set[str]:
        """Wait until this is told of how things are; return all lines until then."""
        self._channel.settimeout(PATIENCE)
        heard: set[str] = set()
        deadline = time.monotonic() + PATIENCE
        while f"STATUS={wanted}" not in heard:
            assert time.monotonic() < deadline, heard
            heard.update(self._channel.recv(4096).decode().splitlines())
        return heard

    def forget(self) -> None:
        """Pass over what has been told so far."""
        self._channel.setblocking(False)
        with suppress(BlockingIOError):
            while self._channel.recv(4096):
                pass

    def hears_no_sign_of_life(self) -> bool:
        """Whether many of them do not come."""
        until = time.monotonic() + 20 * EVERY
        while (left := until - time.monotonic()) > 0:
            self._channel.settimeout(left)
            with suppress(TimeoutError):
                if self._channel.recv(4096) == b"WATCHDOG=1":
                    return False
        return True


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        yield Manager(channel, path)


@contextmanager
def watched(directory: Path, manager: Manager, **config: object) -> Iterator[Running]:
    """A service with one worker, watched over."""
    with running(directory, workers=1, load="error", timing=TIMING, **config) as service:
        service.wait()
        service.configure(load="")
        service.start(environment=manager.environment)
        service.ready()
        yield service


@contextmanager
def without_helper(
    directory: Path, manager: Manager, obstacle: Path
) -> Iterator[tuple[Running, str]]:
    """A watched service whose one helper cannot start again; and what is said of that."""
    failing = f"helper 1 down: cannot start: {obstacle} is in the way"
    with watched(directory, manager, obstacle=str(obstacle), helpers=1) as service:
        obstacle.touch()
        service.signal("KILL", service.workers()["helper 1 generation 1"])
        manager.hear_status(f"generation 1; {failing}")
        yield service, failing


@contextmanager
def hung(pid: int) -> Iterator[None]:
    """A process that does not come round, and when it is killed does not go.

    It waits for a tracer who does nothing, and whom the kernel lets know of its death first.
    """
    tracer = subprocess.Popen(
        [needs.tool("strace"), "-q", "-o", os.devnull, "-p", str(pid)], stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: tracer.poll() is not None or _is_traced(pid))
        if tracer.poll() is not None:
            needs.lacking("cannot trace")
        tracer.send_signal(signal.SIGSTOP)
        yield
    finally:
        tracer.kill()
        tracer.wait()


def _is_traced(pid: int) -> bool:
    return "\nTracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


def test_signs_of_life_come_until_the_end(tmp_path: Path, manager: Manager) -> None:
    with watched(tmp_path, manager) as service:
        manager.hear(b"WATCHDOG=1", times=10)
        service.signal("HUP")
        service.ready(2)
        manager.forget()
        manager.hear(b"WATCHDOG=1", times=5)
        with service.connect() as client:
            assert client.ask("begin") == "begin"
            service.signal("TERM")
            manager.hear(b"STOPPING=1")
            manager.hear(b"WATCHDOG=1", times=3)
            assert client.ask("end") == "end"


def test_worker_that_is_replaced_takes_no_sign_of_life_away(
    tmp_path: Path, manager: Manager
) -> None:
    with watched(tmp_path, manager) as service:
        service.signal("STOP", service.workers()["echo 1 generation 1"])
        service.wait_for("worker-stuck")
        service.wait_for("worker-ready", times=2)
        manager.forget()
        manager.hear(b"WATCHDOG=1", times=3)


def test_master_that_hangs_gives_no_sign_of_life(tmp_path: Path, manager: Manager) -> None:
    with watched(tmp_path, manager) as service:
        service.signal("STOP")
        eventually(lambda: _state(service.master) == "T")
        manager.forget()
        assert manager.hears_no_sign_of_life()
        service.signal("CONT")
        manager.hear(b"WATCHDOG=1", times=3)


def test_no_sign_of_life_is_given_while_a_role_hangs_and_cannot_be_killed(
    tmp_path: Path, manager: Manager
) -> None:
    with watched(tmp_path, manager, helpers=1) as service:
        with hung(service.workers()["helper 1 generation 1"]):
            service.wait_for("worker-stuck")
            manager.forget()
            assert manager.hears_no_sign_of_life(), "another kind serves on"
        service.wait_for("worker-ready", times=3)
        manager.hear(b"WATCHDOG=1", times=3)


def test_no_sign_of_life_is_given_while_nobody_can_start(tmp_path: Path, manager: Manager) -> None:
    obstacle = tmp_path / "obstacle"
    with watched(tmp_path, manager, obstacle=str(obstacle)) as service:
        manager.hear(b"WATCHDOG=1", times=3)
        obstacle.touch()
        service.signal("KILL", service.workers()["echo 1 generation 1"])
        service.wait_for("worker-refused")
        manager.forget()
        assert manager.hears_no_sign_of_life()
        obstacle.unlink()
        manager.hear(b"WATCHDOG=1", times=3)


def test_signs_of_life_come_while_a_role_cannot_start_and_another_serves(
    tmp_path: Path, manager: Manager
) -> None:
    obstacle = tmp_path / "obstacle"
    with without_helper(tmp_path, manager, obstacle) as (service, failing):
        service.wait_for("workers-failing", reason=failing)
        manager.hear(b"WATCHDOG=1", times=20)
        assert service.ask("who") == "echo 1 generation 1"
        obstacle.unlink()
        manager.hear_status("generation 1")
        service.wait_for("workers-recovered")


def test_role_that_cannot_start_is_told_of_until_a_reload_comes_to_something(
    tmp_path: Path, manager: Manager
) -> None:
    obstacle = tmp_path / "obstacle"
    with without_helper(tmp_path, manager, obstacle) as (service, failing):
        service.configure(load="error")
        service.signal("HUP")
        wrong = "the configuration is wrong: mend it"
        manager.hear_status(f"generation 1; reload failed: {wrong}; {failing}")
        service.configure(load="", obstacle="")
        service.signal("HUP")
        assert f"STATUS=generation 2; {failing}" not in manager.hear_status("generation 2")
        service.wait_for("workers-recovered")
        assert len(service.seen("workers-failing")) == 1


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
