"""A fake at the border of the operating system: system calls that fail, wait, and are written down.

`Border` runs a function in a thread of its own, under a seccomp filter that stops some system
calls and asks here what becomes of each (seccomp_unotify(2)): it passes, fails with an errno, or
is held until the test lets it go. Threads that the function starts are under the filter as well;
nothing else is. What passes is done by the real kernel, on real files.

A call that is stopped while its thread holds the GIL would stop this one too: so `close` is not
offered.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from tests import needs

Result = TypeVar("Result")

NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "openat": 257, "writev": 20, "fsync": 74, "syncfs": 306, "renameat2": 316, "linkat": 265,
        "unlinkat": 263, "mkdirat": 258, "copy_file_range": 326, "sendfile": 40, "seccomp": 317,
        "pwritev": 296, "readv": 19, "pread64": 17, "pwrite64": 18, "fdatasync": 75, "write": 1,
        "fcntl": 72, "fadvise64": 221,
    },
    "aarch64": {
        "openat": 56, "writev": 66, "fsync": 82, "syncfs": 267, "renameat2": 276, "linkat": 37,
        "unlinkat": 35, "mkdirat": 34, "copy_file_range": 285, "sendfile": 71, "seccomp": 277,
        "pwritev": 70, "readv": 65, "pread64": 67, "pwrite64": 68, "fdatasync": 83, "write": 64,
        "fcntl": 25, "fadvise64": 223,
    },
}  # fmt: skip

_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_LOAD_NUMBER = struct.pack("HBBI", 0x20, 0, 0, 0)
_ALLOW = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
_NOTIFY = struct.pack("HBBI", 0x06, 0, 0, 0x7FC00000)
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1

PATIENCE = 10.0


@dataclass(slots=True, eq=False)
class Call:
    """A system call that a thread is about to make; its numbers are as the kernel gets them."""

    name: str
    args: tuple[int, ...]
    id: int

    @property
    def makes_file(self) -> bool:
        return self.name == "openat" and bool(self.args[2] & os.O_CREAT)


class Hold:
    """What a judge returns to have the call wait for `Border.let_go`."""


HOLD = Hold()
Verdict: TypeAlias = int | Hold | None
Judge = Callable[[Call], Verdict]


def passes(call: Call) -> None:
    """The judge that lets all calls through."""


@dataclass(slots=True, eq=False)
class Border:
    """Stops the calls named; `judge` returns an errno, HOLD, or None to let the call pass."""

    names: Iterable[str]
    judge: Judge = passes
    calls: list[Call] = field(default_factory=list)
    held: list[Call] = field(default_factory=list)
    _listener: int = -1
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self, action: Callable[[], Result]) -> Result:
        """Do it under the filter; returns or raises what it does."""
        return self.start(action)()

    def start(self, action: Callable[[], Result]) -> Callable[[], Result]:
        """Begin it under the filter; the function returned waits for its end."""
        outcome: dict[str, Any] = {}
        ready = threading.Event()

        def supervised() -> None:
            try:
                self._listener = _install(self.names)
                ready.set()
                outcome["result"] = action()
            except BaseException as error:
                outcome["error"] = error
            finally:
                ready.set()
                self._ended.set()

        def end() -> Result:
            worker.join(PATIENCE)
            watcher.join(PATIENCE)
            assert not worker.is_alive()
            if self._listener >= 0:
                os.close(self._listener)
            if "error" in outcome:
                raise outcome["error"]
            result: Result = outcome["result"]
            return result

        worker = threading.Thread(target=supervised)
        worker.start()
        ready.wait(PATIENCE)
        watcher = threading.Thread(target=self._watch)
        watcher.start()  # ends at once where there is no filter
        return end

    def let_go(self, call: Call, error: int | None = None) -> None:
        """Let a held call pass, or fail."""
        self.held.remove(call)
        self._answer(call, error)

    def made(self, *names: str) -> list[Call]:
        """The calls of these names, in order."""
        return [call for call in self.calls if call.name in names]

    def _watch(self) -> None:
        numbers = {number: name for name, number in _numbers().items()}
        poll = select.poll()
        if self._listener >= 0:
            poll.register(self._listener, select.POLLIN)
        while not self._ended.is_set():
            if not any(event & select.POLLIN for _, event in poll.poll(20)):
                continue
            notice = bytearray(80)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, notice, True)
            except (FileNotFoundError, InterruptedError):
                continue
            id, _pid, _flags, number, _arch, _ip, *args = struct.unpack("QIIiIQ6Q", notice)
            call = Call(numbers[number], tuple(args), id)
            verdict = self.judge(call)
            self.calls.append(call)
            if isinstance(verdict, Hold):
                self.held.append(call)
            else:
                self._answer(call, verdict)

    def _answer(self, call: Call, error: int | None) -> None:
        flags, result = (0, -error) if error else (_CONTINUE, 0)
        reply = bytearray(struct.pack("QqiI", call.id, 0, result, flags))
        fcntl.ioctl(self._listener, _SEND, reply, True)


def failing(name: str, error: int, when: Callable[[Call], bool] = lambda call: True) -> Judge:
    """The judge that lets all pass but the calls of this name for which `when` holds."""
    return lambda call: error if call.name == name and when(call) else None


def on(fd: int) -> Callable[[Call], bool]:
    """Whether a call is on this descriptor, as its first argument."""
    return lambda call: call.args[0] == fd


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.001)


def _numbers() -> dict[str, int]:
    machine = platform.machine()
    if machine not in NUMBERS:
        needs.lacking(f"numbers of system calls are not known here: {machine}")
    return NUMBERS[machine]


def _install(names: Iterable[str]) -> int:
    """Put this thread under the filter; returns the descriptor that tells of its calls."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = _LOAD_NUMBER
    for name in names:
        program += struct.pack("HBBI", 0x15, 0, 1, _numbers()[name]) + _NOTIFY
    program += _ALLOW
    octets = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(octets))
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = libc.syscall(_numbers()["seccomp"], _SET_MODE_FILTER, _NEW_LISTENER, header)
    if listener < 0:
        needs.lacking(f"no seccomp here: {os.strerror(ctypes.get_errno())}")
    return int(listener)
