"""A network of its own, in which a test's server has addresses that are not loopback's.

Nothing leaves it: the addresses, for documentation (RFC 5737, RFC 3849), are on its own loopback
device. Only root can make one.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests import needs
from tests.running.program import PATIENCE, Talk

SERVER = "192.0.2.1"
SERVER6 = "2001:db8::1"
CLIENTS = ("192.0.2.11", "192.0.2.12", "192.0.2.13")
CLIENTS6 = ("2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1")
"""The first two are in one /64."""
LOOPBACK = "127.0.0.1"

_CLONE_NEWNET = 0x40000000


class Namespace:
    """Where to run a server (`prefix`), and to connect from."""

    def __init__(self, name: str) -> None:
        self._path = Path("/run/netns") / name
        self.prefix = ("nsenter", f"--net={self._path}")

    def connect(self, port: int, client: str = CLIENTS[0]) -> Talk:
        """Talk to the server from this address."""
        with ThreadPoolExecutor(1) as outside:
            return Talk.over(outside.submit(self._connect, port, client).result())

    def _connect(self, port: int, client: str) -> socket.socket:
        """Called in a thread of its own, which ends in the other network."""
        with self._path.open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        server = client if client == LOOPBACK else SERVER6 if ":" in client else SERVER
        return socket.create_connection((server, port), PATIENCE, source_address=(client, 0))


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a network, and take it away again."""
    needs.root()
    ip = needs.tool("ip", package="iproute2")
    name = f"pfsmtp-test-{os.getpid()}"
    made = subprocess.run([ip, "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        needs.lacking(f"cannot make a network namespace: {made.stderr.strip()}")
    try:
        inside = [ip, "-n", name]
        subprocess.run([*inside, "link", "set", "lo", "up"], check=True)
        for address in (SERVER, *CLIENTS):
            subprocess.run([*inside, "addr", "add", f"{address}/32", "dev", "lo"], check=True)
        for address in (SERVER6, *CLIENTS6):
            subprocess.run(
                [*inside, "addr", "add", f"{address}/128", "dev", "lo", "nodad"], check=True
            )
        yield Namespace(name)
    finally:
        subprocess.run([ip, "netns", "delete", name], check=True)
