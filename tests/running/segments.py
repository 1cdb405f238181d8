"""Octets sent such that the server receives them cut where a test wants them cut.

TCP joins what is sent in pieces when the receiver is slow. So each piece waits until the server has
read the one before, which the kernel tells (sock_diag(7)). Under TLS a piece is a record, too.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterable
from typing import Self

from tests import needs
from tests.running.program import PATIENCE

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_ANY_STATE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_IDENTITY = struct.Struct("!HH16s16sI8s")
_QUEUE_OFFSET = _HEADER.size + 4 + _IDENTITY.size + 4


class Segments:
    """Sends pieces on a connection over IPv4 to a server on this machine."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        (server, server_port), (client, client_port) = sock.getpeername(), sock.getsockname()
        self._identity = _IDENTITY.pack(
            server_port, client_port, _address(server), _address(client), 0, b"\xff" * 8
        )

    def send(self, *pieces: bytes) -> None:
        """Send each piece once the server has read the one before."""
        deadline = time.monotonic() + PATIENCE
        for piece in pieces:
            self._socket.sendall(piece)
            while self._unread():
                assert time.monotonic() < deadline, "the server does not read"
                os.sched_yield()

    def _unread(self) -> int:
        """Octets that wait in the server's socket; none once it has closed."""
        request = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ANY_STATE) + self._identity
        size = _HEADER.size + len(request)
        self._kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + request)
        answer = self._kernel.recv(8192)
        _, kind, *_ = _HEADER.unpack_from(answer)
        if kind == _NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", answer, _HEADER.size)
            if error == -2:  # ENOENT
                return 0
            needs.lacking(f"needs the kernel's inet_diag (error {-error})")
        (unread,) = struct.unpack_from("=I", answer, _QUEUE_OFFSET)
        return int(unread)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.close()


def octet_by_octet(octets: bytes) -> Iterable[bytes]:
    return (octets[at : at + 1] for at in range(len(octets)))


def _address(text: str) -> bytes:
    return socket.inet_aton(text).ljust(16, b"\0")
