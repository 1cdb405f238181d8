"""A running echo service (`echo.py`), as the tests of this room see it from outside."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

PATIENCE = 20.0
ROOT = Path(__file__).parents[2]
QUICK = {"beat": 0.05, "reload_spacing": 0.0, "quit": 1.0}

Event = dict[str, Any]


def eventually(holds: Callable[[], bool], *, within: float = PATIENCE) -> None:
    """Look again and again until `holds`; fail if it does not in time."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "did not come about in time"
        pause()


def pause() -> None:
    """Let others run before looking again."""
    select.select([], [], [], 0.005)


def ended(pid: int) -> bool:
    """Whether no such process runs, be it reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def title(pid: int) -> str:
    """Return what `ps` shows for a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


class Client:
    """A connection to the service, which answers each line with one."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._lines = self._socket.makefile("r", newline="\n")

    def ask(self, line: str) -> str:
        """Send a line, return the answer; empty when the connection was closed or reset."""
        try:
            self._socket.sendall(f"{line}\n".encode())
            return self._lines.readline().strip()
        except (ConnectionResetError, BrokenPipeError):
            return ""

    def closed(self) -> bool:
        """Wait for the other side to close; False if it says something instead."""
        try:
            return self._lines.read(1) == ""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Running:
    """The processes of one master, and the events they have written."""

    def __init__(self, directory: Path, **config: Any) -> None:
        self.port = _free_port()
        self._path = directory / "echo.json"
        self._events = directory / "events"
        self._config: dict[str, Any] = {"port": self.port}
        self._started: list[subprocess.Popen[bytes]] = []
        self.configure(**{"timing": QUICK, **config})
        self.start()

    def start(self, *, environment: dict[str, str] | None = None) -> None:
        """Start a master, the first or one after another, on the same port."""
        self._events.write_bytes(b"")
        with self._events.open("ab") as events:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.process.echo", str(self._path)],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stderr=events,
                stdout=subprocess.PIPE,
                process_group=0,
            )
        self._started.append(self.process)

    @property
    def master(self) -> int:
        return self.process.pid

    def configure(self, **config: Any) -> None:
        """Change the file that the next load reads."""
        self._config.update(config)
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self._config))
        temporary.rename(self._path)

    def signal(self, name: str, pid: int | None = None) -> None:
        os.kill(pid or self.master, signal.Signals[f"SIG{name}"])

    def events(self) -> list[Event]:
        """Return all that has been written, by any process, oldest first."""
        *lines, _ = self._events.read_bytes().split(b"\n")
        return [json.loads(line) for line in lines]

    def seen(self, event: str, **fields: Any) -> list[Event]:
        """Return the events of that name with those fields, so far."""
        wanted = {"event": event, **fields}.items()
        return [found for found in self.events() if wanted <= found.items()]

    def wait_for(self, event: str, *, times: int = 1, **fields: Any) -> Event:
        """Return the event of that name, and those fields, that comes for the `times`-th time."""
        deadline = time.monotonic() + PATIENCE
        while len(found := self.seen(event, **fields)) < times:
            assert time.monotonic() < deadline, f"no {event} {fields} among {self.events()}"
            pause()
        return found[times - 1]

    def wait_for_silence(self) -> str:
        """Wait until no process is left; return what was said to the terminal."""
        assert self.process.stdout is not None
        said = b""
        while True:
            assert select.select([self.process.stdout], [], [], PATIENCE)[0], "somebody is left"
            octets = os.read(self.process.stdout.fileno(), 65536)
            if not octets:
                return said.decode()
            said += octets

    def wait(self) -> int:
        """Return the exit status of the master."""
        return self.process.wait(PATIENCE)

    def ready(self, generation: int = 1) -> Event:
        return self.wait_for("generation-ready", generation=generation)

    def workers(self) -> dict[str, int]:
        """Return the pids of the workers that run, by name and generation."""
        found = {}
        for event in self.seen("worker-ready"):
            if not ended(event["pid"]):
                found[f"{event['worker']} generation {event['generation']}"] = event["pid"]
        return found

    def connect(self) -> Client:
        return Client(self.port)

    def ask(self, line: str) -> str:
        """Ask one line on a connection of its own."""
        with self.connect() as client:
            return client.ask(line)

    def close(self) -> None:
        """Leave no process behind, whatever the test did."""
        for process in self._started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def running(directory: Path, **config: Any) -> Iterator[Running]:
    """Start the service with `config` in its file, and leave nothing of it behind."""
    service = Running(directory, **config)
    try:
        yield service
    finally:
        service.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
