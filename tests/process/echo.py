"""A small TCP service under a real master, for the tests of this room: run as a program.

`python -m tests.process.echo CONFIG` serves on the port named in the JSON file CONFIG, which is
read again at every reload and says what is to go wrong. State changes go to stderr, a JSON line
each.

A client sends lines and gets a line back: `who` worker and generation, `pid`, `descriptors`,
`number`, `core` how busy that was, `begin` and `end` of something that a drain has to wait for,
`hang` the main thread, `hold` the lock of the numbers and die, `privileges` from /proc. Anything
else is echoed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pfsmtp.process.errors import ServiceError
from pfsmtp.process.master import Master
from pfsmtp.process.privileges import Identity, identity
from pfsmtp.process.service import Body, Context, Generation, Role, Timing
from pfsmtp.process.shared import Numbers
from pfsmtp.process.systemd import Notifier


@dataclass
class Config:
    """What CONFIG may say."""

    port: int
    workers: int = 2
    helpers: int = 0
    core: int | None = None  # that the first worker keeps to
    load: str = ""  # "error" or "bug"
    boot: str = ""  # "refuse", "bug", "die", "hang"
    obstacle: str = ""  # workers refuse to start while there is a file of this name
    user: str | None = None
    timing: dict[str, float] = field(default_factory=dict)


class JsonLog:
    """Writes each event as one line, which readers of the pipe see whole."""

    def event(self, name: str, /, **fields: object) -> None:
        line = json.dumps({"event": name, "from": os.getpid(), **fields})
        os.write(2, f"{line}\n".encode())

    def bug(self, name: str, error: BaseException, /, **fields: object) -> None:
        trace = "".join(traceback.format_exception(error))
        self.event(name, error=repr(error), trace=trace, **fields)

    def reopen(self) -> None:
        self.event("reopened")


class Echo:
    """A body whose threads answer lines."""

    def __init__(self, context: Context, listener: socket.socket, numbers: Numbers) -> None:
        self._context = context
        self._listener = listener
        self._numbers = numbers
        self._draining, self._wake = os.pipe()
        self._threads: list[threading.Thread] = []
        self._lines = 0
        self._hanging = False
        self._taken: float | None = None

    def start(self) -> None:
        self._begin(self._accept)

    def drain(self) -> None:
        os.write(self._wake, b"!")

    def finished(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        JsonLog().event("stopped", worker=self._context.name)

    def reopen(self) -> None:
        JsonLog().reopen()

    def core_taken(self, share: float) -> None:
        self._taken = share

    def title(self) -> str:
        if self._hanging:
            JsonLog().event("hanging")
            time.sleep(3600)
        return f"{self._lines} lines"

    def _begin(self, call: Callable[[], None]) -> None:
        thread = threading.Thread(target=call, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with self._listener:
            while self._wait(self._listener.fileno()):
                try:
                    connection, _ = self._listener.accept()
                except BlockingIOError:
                    continue
                self._begin(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        busy = False
        with connection, connection.makefile("rb") as lines:
            while busy or self._wait(connection.fileno()):
                line = lines.readline().decode().strip()
                if not line:
                    return
                self._lines += 1
                busy = {"begin": True, "end": False}.get(line, busy)
                connection.sendall(f"{self._answer(line)}\n".encode())

    def _wait(self, fd: int) -> bool:
        """Wait until `fd` can be read; False when the drain has begun."""
        readable, _, _ = select.select([fd, self._draining], [], [])
        return self._draining not in readable

    def _answer(self, line: str) -> str:
        match line:
            case "who":
                return f"{self._context.name} generation {self._context.generation}"
            case "pid":
                return str(os.getpid())
            case "descriptors":
                return json.dumps(_descriptors())
            case "number":
                return str(self._numbers.next())
            case "core":
                return str(self._taken)
            case "privileges":
                return json.dumps(Path("/proc/self/status").read_text())
            case "hang":
                self._hanging = True
            case "hold":
                self._numbers._lock.acquire(1.0)
                os.kill(os.getpid(), signal.SIGKILL)
        return line


@dataclass
class EchoGeneration:
    config: Config
    listener: socket.socket
    numbers: Numbers
    identity: Identity | None
    closed: Callable[[], None]

    @property
    def roles(self) -> Sequence[Role]:
        core = self.config.core
        echo = Role("echo", self.config.workers, self._make, None if core is None else core.__add__)
        return [echo, Role("helper", self.config.helpers, self._make, prepare=self._prepare)]

    def close(self) -> None:
        JsonLog().event("generation-closed")
        self.closed()

    def _prepare(self) -> None:
        """See who answers before the first helper is forked."""
        with socket.create_connection(("127.0.0.1", self.config.port), timeout=10) as client:
            client.sendall(b"who\n")
            JsonLog().event("prepared", answer=client.recv(100).decode())

    def _make(self, context: Context) -> Body:
        match self.config.boot:
            case "refuse":
                raise ServiceError("no room at the inn")
            case "bug":
                raise ZeroDivisionError("bad arithmetic")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
        if self.config.obstacle and Path(self.config.obstacle).exists():
            raise ServiceError(f"{self.config.obstacle} is in the way")
        return Echo(context, self.listener, self.numbers)


class EchoService:
    """Binds at the first load and keeps the listener while a generation uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener: socket.socket | None = None
        self._open = 0
        self._numbers = Numbers(timeout=0.2)

    def load(self) -> Generation:
        config = read(self._path)
        if config.load == "error":
            raise ServiceError("the configuration is wrong: mend it")
        if config.load == "bug":
            raise ZeroDivisionError("bad arithmetic")
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", config.port), backlog=512)
            self._listener.setblocking(False)
        self._open += 1
        return EchoGeneration(
            config, self._listener, self._numbers, identity(config.user, None), self._closed
        )

    def tick(self) -> None:
        if self._numbers.tick():
            JsonLog().event("freed-unnoted")

    def _closed(self) -> None:
        self._open -= 1
        if self._open == 0 and self._listener is not None:
            self._listener.close()

    def worker_died(self, pid: int, *, killed: bool) -> None:
        freed = self._numbers.free_dead(pid)
        JsonLog().event("told-of-death", pid=pid, killed=killed, freed=freed)


def _descriptors() -> dict[str, str]:
    """Return what each open descriptor of this process is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def read(path: Path) -> Config:
    return Config(**json.loads(path.read_text()))


def main(path: Path) -> int:
    master = Master(
        EchoService(path),
        JsonLog(),
        name="echo",
        notifier=Notifier(os.environ),
        timing=Timing(**read(path).timing),
    )
    status = master.run()
    if master.failure and status:
        print(master.failure)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
