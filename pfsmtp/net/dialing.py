"""Connections in the making: several at a time, and which of them came about.

What it leaves to others: which addresses are tried, when the next one is, and which is taken. A
connection that cannot be made is an answer like any other. `OSError` is raised only where this
machine has no socket to give (EMFILE, ENFILE, ENOBUFS): that says nothing about the address.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Dialed:
    """What became of one: a connected socket that sends at once, and blocks; or an error."""

    address: str
    socket: socket.socket | None
    error: OSError | None = None


class Dialing:
    """A context manager: what is still in the making at the end is given up."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._poll = select.poll()
        self._pending: dict[int, tuple[str, socket.socket]] = {}
        self._failed: list[Dialed] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _, sock in self._pending.values():
            sock.close()
        self._pending.clear()

    @property
    def pending(self) -> list[str]:
        """The addresses that have not answered yet."""
        return [address for address, _ in self._pending.values()]

    def start(self, address: str) -> None:
        """Begin to connect. Raises OSError when there is no socket."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            self._failed.append(Dialed(address, None, error))
            return
        number = sock.connect_ex((address, self._port))
        if number not in (0, errno.EINPROGRESS):
            sock.close()
            self._failed.append(Dialed(address, None, _error(number)))
            return
        self._pending[sock.fileno()] = (address, sock)
        self._poll.register(sock, select.POLLOUT)

    def give_up(self, address: str) -> None:
        """Stop trying an address, if it is being tried."""
        for fd, (tried, _) in list(self._pending.items()):
            if tried == address:
                self._take(fd).close()

    def wait(self, seconds: float) -> Dialed | None:
        """Return one that came about or failed; None when none did in time."""
        if self._failed:
            return self._failed.pop(0)
        if not self._pending:
            return None
        for fd, _ in self._poll.poll(max(0.0, seconds) * 1000):
            address, _ = self._pending[fd]
            sock = self._take(fd)
            try:
                _make_ready(sock)
            except OSError as error:
                sock.close()
                return Dialed(address, None, error)
            return Dialed(address, sock)
        return None

    def _take(self, fd: int) -> socket.socket:
        self._poll.unregister(fd)
        return self._pending.pop(fd)[1]


def _make_ready(sock: socket.socket) -> None:
    """Have it as `Dialed` gives it. Raises OSError if it is not connected, or already broken."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise _error(number)
    sock.setblocking(True)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
