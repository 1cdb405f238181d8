"""The listening sockets of all generations: bound once, closed when nobody needs them any more.

With them goes the file of the socket for this machine's programs.

A socket that systemd passed is taken for the configured address it is bound to; one that no address
names is listened on as well, with TLS from the first octet if its unit calls it `smtps`. The socket
for programs is systemd's as well if it is passed: then its file is none of ours.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pfsmtp.config import Address, Listen
from pfsmtp.net.listener import (
    BindError,
    Listener,
    adopt,
    adopt_local,
    bind,
    bind_local,
    remove_local,
)
from pfsmtp.process.systemd import InheritedDescriptor

_SMTPS = "smtps"  # FileDescriptorName= of a unit's socket

Key = tuple[Address, bool] | Path
"""An address, and whether TLS begins with the first octet; or the socket for programs."""


class Listeners:
    """Gives each generation its listeners, and shares those that several have."""

    def __init__(self, inherited: Iterable[InheritedDescriptor]) -> None:
        self._inherited = {_bound_to(descriptor.fd): descriptor for descriptor in inherited}
        self._open: dict[Key, Listener] = {}
        self._users: Counter[Listener] = Counter()

    def take(self, listen: Listen, local: Path | None = None) -> list[Listener]:
        """The listeners of a configuration. Raises BindError, and has then bound nothing.

        `local` is where programs of this machine hand over messages.
        """
        wanted: list[Key] = [(address, False) for address in listen.smtp]
        wanted += [(address, True) for address in listen.smtps]
        named = {*listen.smtp, *listen.smtps}
        for bound, descriptor in self._inherited.items():
            if isinstance(bound, Path):
                _check_local(bound, local)
            elif bound not in named:
                wanted.append((bound, descriptor.name == _SMTPS))
        if local is not None:
            wanted.append(local)
        fresh: dict[Key, Listener] = {}
        try:
            for key in wanted:
                if key not in self._open:
                    fresh[key] = self._listen(key)
        except Exception:
            for key, listener in fresh.items():
                self._close(key, listener)
            raise
        self._open |= fresh
        taken = [self._open[key] for key in wanted]
        self._users.update(taken)
        return taken

    def give_back(self, taken: Iterable[Listener]) -> None:
        """A generation accepts no more: close what no other has taken."""
        self._users.subtract(taken)
        for key, listener in list(self._open.items()):
            if self._users[listener] <= 0:
                del self._users[listener]
                del self._open[key]
                self._close(key, listener)

    def keep_only(self, taken: Iterable[Listener]) -> None:
        """In a worker: close what others use. A copy left open would keep the address bound."""
        for listener in set(self._open.values()).difference(taken):
            listener.close()

    def _listen(self, key: Key) -> Listener:
        if isinstance(key, Path):
            passed = self._passed(key)
            return bind_local(key) if passed is None else adopt_local(passed)
        address, implicit_tls = key
        passed = self._passed(address)
        if passed is None:
            return bind(address, implicit_tls=implicit_tls)
        return adopt(passed, implicit_tls=implicit_tls)

    def _passed(self, bound: Address | Path) -> socket.socket | None:
        """What systemd passed for it: a copy, so that it can be closed and taken again."""
        descriptor = self._inherited.get(bound)
        return None if descriptor is None else socket.socket(fileno=socket.dup(descriptor.fd))

    def _close(self, key: Key, listener: Listener) -> None:
        """Close a listener in the master; workers that have begun something still have theirs."""
        if isinstance(key, Path) and key not in self._inherited:
            remove_local(key)
        listener.close()


def _check_local(passed: Path, local: Path | None) -> None:
    """A socket that is a file is for programs, or for nothing. Raises BindError."""
    if passed != local:
        raise BindError(
            f"systemd passes the socket {passed}, which is not [listen] sendmail"
            f"{'' if local is None else f', {local}'}: take it out of the socket unit, or name it"
            " there, which is for the outbound server"
        )


def _bound_to(fd: int) -> Address | Path:
    sock = socket.socket(fileno=fd)
    try:
        if sock.family == socket.AF_UNIX:
            return Path(os.fsdecode(sock.getsockname()))
        host, port = sock.getsockname()[:2]
        return Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    finally:
        sock.detach()
