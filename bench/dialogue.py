"""A client of few words, for what smtp-source cannot do: hold connections open, time a message."""

from __future__ import annotations

import socket

REPLY_SECONDS = 60.0


class UnexpectedReplyError(Exception):
    """The server said something else than it should; the text is what."""


class Client:
    """One connection. Raises OSError and UnexpectedReplyError."""

    def __init__(self, port: int) -> None:
        """Connect, and come to where MAIL may be said."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=REPLY_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._hear(220)
        self.say(b"EHLO bench.test\r\n", 250)

    def say(self, octets: bytes, code: int) -> None:
        """Send a command, and wait for a reply with this code."""
        self._socket.sendall(octets)
        self._hear(code)

    def send(self, sender: str, recipient: str, message: bytes) -> None:
        """Have a message taken; it is sent as it is, with the final dot."""
        self.say(f"MAIL FROM:<{sender}>\r\n".encode(), 250)
        self.say(f"RCPT TO:<{recipient}>\r\n".encode(), 250)
        self.say(b"DATA\r\n", 354)
        self.say(message + b".\r\n", 250)

    def quit(self) -> None:
        self.say(b"QUIT\r\n", 221)
        self._socket.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _hear(self, code: int) -> None:
        octets = b""
        while not self._is_whole(octets):
            more = self._socket.recv(4096)
            if not more:
                raise UnexpectedReplyError(f"{octets!r}, and the end of the connection")
            octets += more
        if not octets.startswith(b"%d" % code):
            raise UnexpectedReplyError(octets.decode("ascii", "replace").strip())

    @staticmethod
    def _is_whole(octets: bytes) -> bool:
        """Whether the last line has come: one with a space behind its code."""
        return octets.endswith(b"\r\n") and octets[:-2].rpartition(b"\n")[2][3:4] != b"-"


def message(size: int) -> bytes:
    """A message with `size` octets of text, with CRLF, without a line that begins with a dot."""
    line = b"X" * 78 + b"\r\n"
    text = (line * (size // len(line) + 1))[: size - 2] + b"\r\n"
    return b"From: load@bench.test\r\nSubject: load\r\n\r\n" + text
