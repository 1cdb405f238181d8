"""System calls of a running process that fail, or kill it, at a chosen occurrence (strace(1)).

    with Injection(pid, Fault("fsync", "EIO", 2), record=path) as injection:
        …
    injection.count

All threads of the process but its main one are traced, those that it has when this begins, and the
one of a process that has no other; each counts its own calls. What is injected takes the place of
the call: a `close` that fails has closed nothing. SIGKILL comes before the call is made.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests import needs

KILL = "SIGKILL"
ERRORS = ("ENOSPC", "EIO", "EMFILE", "ENOMEM", "EDQUOT", "EROFS", "EINTR")

_PATIENCE = 10.0
_DEATH = 0.1


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a call, instead of it: an error by its name, or KILL.

    `at` is its number within its thread, from 1 on; 0 stands for all.
    """

    call: str
    error: str
    at: int

    @property
    def kills(self) -> bool:
        return self.error == KILL

    @property
    def option(self) -> str:
        """As strace takes it."""
        what = "signal=KILL" if self.kills else f"error={self.error}"
        return f"inject={self.call}:{what}" + (f":when={self.at}" if self.at else "")

    def __str__(self) -> str:
        return f"{self.error} at {self.call} {self.at or '*'}"


class Injection:
    """A strace that is attached to a process for as long as the `with` block lasts."""

    def __init__(self, pid: int, *faults: Fault, record: Path) -> None:
        self._pid = pid
        self._faults = faults
        self._record = record

    def __enter__(self) -> Self:
        tids = [tid for tid in map(int, os.listdir(f"/proc/{self._pid}/task")) if tid != self._pid]
        tids = tids or [self._pid]
        command = [needs.tool("strace"), "-q", "-o", str(self._record)]
        command += ["-e", "trace=" + ",".join(fault.call for fault in self._faults)]
        for fault in self._faults:
            command += ["-e", fault.option]
        for tid in tids:
            command += ["-p", str(tid)]
        self._record.write_bytes(b"")
        self._strace = subprocess.Popen(command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + _PATIENCE
        while not all(self._traces(tid) for tid in tids):
            if self._strace.poll() is not None:
                needs.lacking(f"cannot trace: {self._said()}")
            assert time.monotonic() < deadline, "strace does not attach"
            time.sleep(0.001)
        return self

    def __exit__(self, *_: object) -> None:
        if self._strace.poll() is None:
            self._strace.send_signal(signal.SIGTERM)
        self._strace.wait(_PATIENCE)
        self._said()
        if any(fault.kills for fault in self._faults):
            # It may have been sent at the last moment.
            deadline = time.monotonic() + _DEATH
            while not self._is_killed() and time.monotonic() < deadline:
                time.sleep(0.005)

    @property
    def count(self) -> int:
        """How many calls have not been made so far."""
        text = self._record.read_text(errors="replace")
        return text.count("(INJECTED)") + self._is_killed()

    def _is_killed(self) -> bool:
        if not any(fault.kills for fault in self._faults):
            return False
        try:
            status = Path(f"/proc/{self._pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return status.rpartition(")")[2].split()[0] in "XZ"

    def _traces(self, tid: int) -> bool:
        try:
            status = Path(f"/proc/{self._pid}/task/{tid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True  # it has ended meanwhile
        return f"\nTracerPid:\t{self._strace.pid}\n" in status

    def _said(self) -> str:
        assert self._strace.stderr is not None
        with self._strace.stderr as errors:
            return errors.read().decode(errors="replace").strip()
