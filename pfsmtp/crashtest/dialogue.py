"""A client's side of one connection: it says what it is told to, and reads replies.

Deliberately not the client of `pfsmtp.smtp`: what a test says of a program should not rest on that
program's own idea of the protocol. `Lost` is the end of the connection, however it came about;
`Hang` is a reply that did not come in time.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass

PATIENCE = 120.0
"""Seconds for one reply."""

_REPLY = re.compile(rb"(?:[0-9]{3}-[^\n]*\n)*[0-9]{3}(?: [^\n]*)?\n")
_DOT_FIRST = re.compile(rb"^\.", re.MULTILINE)


class Lost(Exception):
    """The connection is gone."""


class Hang(Lost):
    """Nothing was said for too long."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of one or more lines."""

    code: int
    text: str

    @property
    def accepts(self) -> bool:
        return self.code < 400


class Dialogue:
    """One connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Connect. Raises Lost."""
        self.offered: frozenset[str] = frozenset()
        self._received = b""
        try:
            self._socket = socket.create_connection(address, PATIENCE)
        except OSError as error:
            raise Lost(str(error)) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure(self, context: ssl.SSLContext) -> None:
        """Shake hands. Raises Lost."""
        try:
            self._socket = context.wrap_socket(self._socket)
        except (OSError, ValueError) as error:
            raise _lost(error) from error

    def hello(self) -> Reply:
        """Say EHLO, and learn what is offered."""
        reply = self.ask("EHLO crashtest.invalid")
        lines = reply.text.splitlines()[1:]
        self.offered = frozenset(line[4:].split(" ")[0].upper() for line in lines)
        return reply

    def ask(self, command: str) -> Reply:
        """Say one command, and hear the reply."""
        self.send(command.encode() + b"\r\n")
        return self.hear()

    def send(self, octets: bytes) -> None:
        """Send octets as they are. Raises Lost."""
        try:
            self._socket.sendall(octets)
        except (OSError, ValueError) as error:
            raise _lost(error) from error

    def hear(self) -> Reply:
        """The next reply. Raises Lost."""
        while not (found := _REPLY.match(self._received)):
            self._received += self._receive()
        octets = found[0]
        self._received = self._received[len(octets) :]
        return Reply(int(octets[:3]), octets.decode("utf-8", "replace"))

    def hear_all(self, count: int) -> list[Reply]:
        """So many replies, to commands that were sent together."""
        return [self.hear() for _ in range(count)]

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            octets = self._socket.recv(16384)
        except (OSError, ValueError) as error:
            raise _lost(error) from error
        if not octets:
            raise Lost("closed")
        return octets


def lines(commands: Iterable[str]) -> bytes:
    """Commands in one piece."""
    return b"".join(command.encode() + b"\r\n" for command in commands)


def stuffed(message: bytes) -> bytes:
    """A message of whole lines, as it follows DATA (RFC 5321 §4.5.2), with the final dot."""
    return _DOT_FIRST.sub(b"..", message) + b".\r\n"


def _lost(error: Exception) -> Lost:
    return Hang("no answer") if isinstance(error, TimeoutError) else Lost(str(error))
