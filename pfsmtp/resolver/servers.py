"""The name servers to ask: configured ones, or those of the system's resolv.conf.

The system's file is read again when it has changed, as it does on machines that change networks;
a file that is missing or names no server means the one on this machine (resolv.conf(5)).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

_PORT = 53


@dataclass(frozen=True, slots=True)
class NameServer:
    """Address and port of one name server."""

    host: str
    port: int = _PORT

    @classmethod
    def parse(cls, text: str) -> NameServer:
        """Read `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`.

        Raises ValueError.
        """
        if text.startswith("["):
            host, _, rest = text[1:].partition("]")
        elif text.count(":") == 1:
            host, _, rest = text.partition(":")
            rest = f":{rest}"
        else:
            host, rest = text, ""
        ip_address(host)
        if not rest:
            return cls(host)
        port = rest[1:]
        if rest[0] != ":" or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"not an address of a name server: {text}")
        return cls(host, int(port))

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def socket_address(self) -> tuple[str, int]:
        return (self.host, self.port)


Servers = Callable[[], Sequence[NameServer]]
"""Which servers to ask now, the first one first."""


def fixed(servers: Sequence[NameServer]) -> Servers:
    """Always ask these."""
    chosen = tuple(servers)
    return lambda: chosen


class SystemServers:
    """The servers of resolv.conf; safe to share between threads."""

    def __init__(self, path: Path = Path("/etc/resolv.conf")) -> None:
        self._path = path
        self._known: tuple[object, Sequence[NameServer]] = (None, ())

    def __call__(self) -> Sequence[NameServer]:
        version = self._version()
        known_version, servers = self._known
        if version != known_version or not servers:
            servers = self._read()
            self._known = (version, servers)
        return servers

    def _version(self) -> object:
        """Something that differs once the file is another one or has been changed."""
        try:
            state = os.stat(self._path)
        except OSError:
            return None
        return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)

    def _read(self) -> Sequence[NameServer]:
        try:
            text = self._path.read_text("utf-8", errors="replace")
        except OSError:
            text = ""
        found = []
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                try:
                    ip_address(words[1])
                except ValueError:
                    continue
                found.append(NameServer(words[1]))
        return tuple(found) or (NameServer("127.0.0.1"),)
