"""The listening sockets of all generations: bound once, closed when nobody needs them any more.

With them goes the file of the socket for this machine's programs.

A socket that systemd passed is taken for the configured address it is bound to; one that no address
names is listened on as well, with TLS from the first octet if its unit calls it `smtps`.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pfsmtp.config import Address, Listen
from pfsmtp.net.listener import Listener, adopt, bind, bind_local, remove_local
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
        wanted += [
            (address, descriptor.name == _SMTPS)
            for address, descriptor in self._inherited.items()
            if address not in named
        ]
        if local is not None:
            wanted.append(local)
        fresh: dict[Key, Listener] = {}
        try:
            for key in wanted:
                if key not in self._open:
                    fresh[key] = self._listen(key)
        except Exception:
            for key, listener in fresh.items():
                _close(key, listener)
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
                _close(key, listener)

    def keep_only(self, taken: Iterable[Listener]) -> None:
        """In a worker: close what others use. A copy left open would keep the address bound."""
        for listener in set(self._open.values()).difference(taken):
            listener.close()

    def _listen(self, key: Key) -> Listener:
        if isinstance(key, Path):
            return bind_local(key)
        address, implicit_tls = key
        descriptor = self._inherited.get(address)
        if descriptor is None:
            return bind(address, implicit_tls=implicit_tls)
        # A copy, so that it can be closed and taken again.
        sock = socket.socket(fileno=socket.dup(descriptor.fd))
        return adopt(sock, implicit_tls=implicit_tls)


def _close(key: Key, listener: Listener) -> None:
    """Close a listener in the master; workers that have begun something still have theirs."""
    if isinstance(key, Path):
        remove_local(key)
    listener.close()


def _bound_to(fd: int) -> Address:
    sock = socket.socket(fileno=fd)
    try:
        host, port = sock.getsockname()[:2]
        return Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    finally:
        sock.detach()
