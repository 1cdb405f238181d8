"""Two ends of a real TCP connection on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 10.0


@contextmanager
def connected() -> Iterator[tuple[int, socket.socket]]:
    """A descriptor of the server's end, which the test's subject closes, and the client's end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        server, _ = listener.accept()
    with client:
        yield server.detach(), client
