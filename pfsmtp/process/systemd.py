"""What systemd and a daemon say to each other, without libsystemd.

sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

Away from systemd `Notifier` is silent and `listen_fds` finds nothing. A notification that cannot be
sent is dropped: the service does not depend on who watches it.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_LISTEN_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_LONGEST_LINE = 500  # characters; systemd throws away what is longer than 4096 octets
_SIGNS_OF_LIFE = 4  # in the time in which the service manager wants one


class Notifier:
    """Tells the service manager what state the master is in."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.every = _watchdog(environment) / _SIGNS_OF_LIFE
        """How often, in seconds, `alive` is to be called at least; infinity if nobody watches."""
        self._due = -math.inf

    def ready(self, status: str) -> None:
        """The start is complete, or the reload is over, whatever came of it."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={_line(status)}")

    def reloading(self, now: float) -> None:
        """A reload begins at `now`, in seconds of the monotonic clock."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}\nSTATUS=reloading")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=finishing what has been begun")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_line(text)}")

    def alive(self, now: float) -> None:
        """All is well at `now`, in monotonic seconds; told as often as it is wanted."""
        if self.every < math.inf and now >= self._due:
            self._due = now + self.every
            self._send("WATCHDOG=1")

    def _send(self, assignments: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto(assignments.encode("utf-8", "replace"), self._address)
        except OSError:
            return


@dataclass(frozen=True, slots=True)
class InheritedDescriptor:
    """A socket that systemd had opened for us; `name` is FileDescriptorName= of its unit."""

    fd: int
    name: str


def listen_fds(
    environment: MutableMapping[str, str], *, pid: int, first: int = _FIRST_DESCRIPTOR
) -> list[InheritedDescriptor]:
    """Return the descriptors handed to process `pid`, now close-on-exec, and forget that they were.

    The variables leave `environment`, so that no child takes them for its own. Variables meant for
    another process, or that make no sense, give an empty list.
    """
    values = [environment.pop(name, "") for name in _LISTEN_VARIABLES]
    owner, count, names = values
    if owner != str(pid) or not (count.isascii() and count.isdigit()):
        return []
    found = []
    known = names.split(":")
    for offset in range(int(count)):
        fd = first + offset
        try:
            os.set_inheritable(fd, False)
        except OSError:
            break  # fewer are open than were announced
        name = known[offset] if offset < len(known) else ""
        found.append(InheritedDescriptor(fd, name or "unknown"))
    return found


def _line(text: str) -> str:
    """Return `text` as one line: each line of a message is an assignment of its own."""
    return " ".join(text.split())[:_LONGEST_LINE]


def _watchdog(environment: Mapping[str, str]) -> float:
    """Return within how many seconds this process has to give a sign of life; infinity: never."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return math.inf
    span = environment.get("WATCHDOG_USEC", "")
    return int(span) / 1e6 if span.isascii() and span.isdigit() and int(span) else math.inf


def _address(path: str) -> str | None:
    """Return what to send to: a path, or an abstract name, which is written with an @."""
    if path.startswith("@"):
        return "\0" + path[1:]
    return path if path.startswith("/") else None
