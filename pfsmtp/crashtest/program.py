"""A server's processes: started as an operator starts it, killed, started again, stopped.

Every start makes a session, whose first process is the master; workers stay in it, also those that
outlive their master. A dead master is not reaped before its session is empty: until then the
kernel gives its number to nobody else, so that "all of this session" can never mean processes that
are not ours. Should the test die, its servers do too (`launch`).

That a server is ready is learnt as systemd learns it, by what it sends to NOTIFY_SOCKET. While
workers of a master that was killed still have the port, a start fails, and is tried again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pfsmtp.crashtest.schedule import Target

_START = 60.0  # seconds until a server that does not become ready is given up
_AGAIN = 0.05  # after a start that failed
_KILLED = 10.0  # for what was killed to be gone
_GLANCE = 0.02
_LOOK = 0.25  # between two looks at sessions whose master is dead


class Failed(Exception):
    """The server did what it must not; the text says what."""


class State(Enum):
    """How far the server is."""

    STARTING = "starting"
    READY = "ready"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `role` as in its title, "" before it has one."""

    pid: int
    role: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A server under test, and which of its processes are killed."""

    name: str
    program: Program
    targets: Sequence[Target]
    drain: float  # seconds that what has begun may go on after TERM, or without a master


class Program:
    """One server. It is tended by calling `tend` many times a second."""

    def __init__(self, config: Path, errors: Path, *, clock: Callable[[], float]) -> None:
        """`errors` is the file for what it writes to stderr; `clock` is monotonic."""
        self.state = State.STOPPED
        self.starts = 0
        self.failed_starts = 0
        self._config = config
        self._errors = errors
        self._clock = clock
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.setblocking(False)
        self._notices.bind("")  # the kernel chooses an abstract name
        self._current: subprocess.Popen[bytes] | None = None
        self._former: list[subprocess.Popen[bytes]] = []
        self._since = 0.0  # the start that is to succeed
        self._next_start = 0.0
        self._next_look = 0.0

    def start(self) -> None:
        """Start it; it is ready later."""
        self._since = self._clock()
        self.state = State.STARTING
        self._spawn()

    def tend(self) -> None:
        """See how it is, and start it again if it is dead. Raises Failed."""
        now = self._clock()
        self._hear()
        if now >= self._next_look:
            self._next_look = now + _LOOK
            self._bury()
        if self.state is State.STOPPED:
            return
        if self._current is not None and (ended := _how_ended(self._current.pid)):
            self._former.append(self._current)
            self._current = None
            if self.state is State.READY:
                raise Failed(f"the master ended by itself, with {ended}")
            self.failed_starts += 1
            self._next_start = now + _AGAIN
        if self._current is None and now >= self._next_start:
            self._spawn()
        if self.state is State.STARTING and now > self._since + _START:
            raise Failed(f"it did not become ready within {_START:g} seconds of its start")

    def kill(self, target: Target, which: float) -> bool:
        """SIGKILL one process or all; False if there is no such process now.

        `which` is a number from 0 to 1.
        """
        master = self._current
        if master is None:
            return False
        if target is Target.ALL:
            # Once, and to all: a session may have had others, but a group is of this start alone.
            os.killpg(master.pid, signal.SIGKILL)
        elif target is Target.MASTER:
            os.kill(master.pid, signal.SIGKILL)
        else:
            workers = [each for each in _members(master.pid) if each.role == target.value]
            if not workers:
                return False
            return _kill(workers[int(which * len(workers))].pid, master.pid)
        self._former.append(master)
        self._current = None
        self._since = self._next_start = self._clock()
        self.state = State.STARTING
        return True

    def stop(self, *, within: float) -> list[str]:
        """TERM, and wait for the end; return what was not as it should be."""
        self.state = State.STOPPED
        wrong = []
        master, self._current = self._current, None
        if master is not None:
            self._former.append(master)
            os.kill(master.pid, signal.SIGTERM)
            if not self._wait(lambda: bool(_how_ended(master.pid)), within):
                wrong.append(f"it did not stop within {within:g} seconds of SIGTERM")
            elif (ended := _how_ended(master.pid)) != "status 0":
                wrong.append(f"it stopped with {ended} in place of status 0")
        if not self._wait(self._bury, within):
            left = sum(len(_others(former.pid)) for former in self._former)
            wrong.append(f"{left} of its processes were left when it had stopped")
        self.destroy()
        return wrong

    def destroy(self) -> None:
        """Kill whatever is left of it."""
        self.state = State.STOPPED
        if self._current is not None:
            self._former.append(self._current)
            self._current = None
        for former in self._former:
            # Not the group alone: the master is dead, and who leads a group is not what matters.
            for process in _members(former.pid):
                _kill(process.pid, former.pid)
        self._wait(self._bury, _KILLED)

    def close(self) -> None:
        """Let go of what is open."""
        self._notices.close()

    def last_words(self) -> str:
        """What it has written to stderr last."""
        lines = self._errors.read_text(errors="replace").splitlines() if self.starts else []
        return lines[-1].removeprefix("pfsmtp: ") if lines else "it says nothing"

    def processes(self) -> list[Process]:
        """Those of the present start."""
        return [] if self._current is None else _members(self._current.pid)

    def _spawn(self) -> None:
        self.starts += 1
        environment = dict(os.environ, NOTIFY_SOCKET=self._notify_address())
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environment.pop(name, None)
        with self._errors.open("ab") as errors:
            self._current = subprocess.Popen(
                [
                    # -P: a checkout that one stands in is not what is installed.
                    *(sys.executable, "-P", "-m", "pfsmtp.crashtest.launch"),
                    *(str(os.getpid()), str(self._config)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )

    def _notify_address(self) -> str:
        name: bytes = self._notices.getsockname()
        return "@" + name[1:].decode("ascii")

    def _hear(self) -> None:
        """Take what masters have said; one that was killed meanwhile is not listened to."""
        while True:
            try:
                assignments = self._notices.recv(4096).decode().splitlines()
            except BlockingIOError:
                return
            if (
                "READY=1" in assignments
                and self._current is not None
                and f"MAINPID={self._current.pid}" in assignments
                and self.state is State.STARTING
            ):
                self.state = State.READY

    def _bury(self) -> bool:
        """Reap the masters whose sessions are empty; whether all are."""
        for former in list(self._former):
            if _how_ended(former.pid) and not _others(former.pid):
                former.wait()
                self._former.remove(former)
        return not self._former

    def _wait(self, holds: Callable[[], bool], seconds: float) -> bool:
        deadline = self._clock() + seconds
        while not holds():
            if self._clock() > deadline:
                return False
            time.sleep(_GLANCE)
        return True


def _members(session: int) -> list[Process]:
    """The living processes of a session."""
    found = []
    for pid in _pids():
        if _session(pid) == session:
            found.append(Process(pid, _role(pid)))
    return sorted(found, key=lambda process: process.pid)


def _others(session: int) -> list[Process]:
    return [process for process in _members(session) if process.pid != session]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _session(pid: int) -> int | None:
    """The session of a process; None when there is none, or it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, _, _, session = stat.rpartition(")")[2].split()[:4]
    return None if state in "ZX" else int(session)


def _role(pid: int) -> str:
    """The second word of `pfsmtp: receiver 1 generation 1 …`."""
    with suppress(FileNotFoundError, ProcessLookupError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(None, 2)
        if len(words) > 1 and words[0] == b"pfsmtp:":
            return words[1].decode("ascii", "replace")
    return ""


def _kill(pid: int, session: int) -> bool:
    """SIGKILL a process if it is of that session; whether it was."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at once it is held: the number cannot have come to mean another process since.
        if _session(pid) != session:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _how_ended(pid: int) -> str:
    """How a child of ours ended, "" while it runs; it is not reaped."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return ""
    word = "status" if found.si_code == os.CLD_EXITED else "signal"
    return f"{word} {found.si_status}"
