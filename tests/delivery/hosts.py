"""Remote hosts for tests of the relay: polite ones, hostile ones, and black holes.

A `Host` listens on an address of loopback and speaks SMTP as a polite server does, except where its
`replies` say otherwise. All connections are closed, and all threads ended, when it is left.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10000000", "ENHANCEDSTATUSCODES")


class Gone(Exception):
    """The conversation is over."""


class Talk:
    """One connection as the host sees it."""

    def __init__(self, sock: socket.socket, over: threading.Event) -> None:
        self.sock = sock
        self._over = over
        self._octets = b""
        self.said = b""  # last

    def line(self) -> bytes:
        """The next line of the client's, without its CRLF."""
        while b"\r\n" not in self._octets:
            self._octets += self._receive()
        line, _, self._octets = self._octets.partition(b"\r\n")
        return line

    def _receive(self) -> bytes:
        try:
            octets = self.sock.recv(65536)
        except OSError as error:
            raise Gone from error
        if not octets:
            raise Gone
        return octets

    def say(self, octets: bytes) -> None:
        self.said = octets
        try:
            self.sock.sendall(octets)
        except OSError as error:
            raise Gone from error

    def drip(self, octets: bytes, seconds: float = 0.02) -> None:
        """Say it octet by octet."""
        for octet in octets:
            self.say(bytes([octet]))
            if self._over.wait(seconds):
                raise Gone

    def hang(self) -> None:
        """Say nothing until the client gives up, or the test ends."""
        while not self._over.is_set():
            try:
                self.sock.settimeout(0.02)
                if not self.sock.recv(65536):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        raise Gone

    def wait(self, seconds: float) -> None:
        self._over.wait(seconds)

    def reset(self) -> None:
        """End the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.sock.close()
        raise Gone

    def secure(self, context: ssl.SSLContext) -> None:
        try:
            self.sock = context.wrap_socket(self.sock, server_side=True)
            self.sock.settimeout(10)
        except (OSError, ValueError) as error:
            raise Gone from error


Behaviour = bytes | Callable[[Talk], None]
"""What a host says, or does, in place of its usual reply."""


@dataclass(slots=True)
class Stored:
    """A message a host has taken."""

    sender: bytes
    recipients: list[bytes]
    octets: bytes
    encrypted: bool
    at: float = field(default_factory=time.monotonic)  # when it had said so


@dataclass(slots=True)
class Host:
    """`replies` are by what the line begins with: `BANNER`, `RCPT TO:<bob`, `.` for the dot."""

    replies: Mapping[str, Behaviour] = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    tls: ssl.SSLContext | None = None
    implicit: bool = False  # TLS begins with the first octet
    address: str = "127.0.0.1"
    port: int = 0
    commands: list[list[bytes]] = field(default_factory=list)  # by connection
    stored: list[Stored] = field(default_factory=list)
    _listener: socket.socket = field(init=False, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)
    _talks: list[Talk] = field(default_factory=list, repr=False)
    _threads: list[threading.Thread] = field(default_factory=list, repr=False)
    errors: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._listener = socket.create_server((self.address, self.port), family=family, backlog=100)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for talk in self._talks:
            with suppress(OSError):
                # Not SSLSocket.shutdown, which takes the TLS away from under the other thread.
                socket.socket.shutdown(talk.sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        assert self.errors == []

    @property
    def connections(self) -> int:
        return len(self.commands)

    @property
    def verbs(self) -> list[str]:
        """The commands of all connections, without arguments."""
        return [line.split()[0].decode() for commands in self.commands for line in commands]

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(10)
            # Replies to a group leave one by one, and would wait for each other's ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(lambda sock=sock: self._serve(sock))  # type: ignore[misc]

    def _serve(self, sock: socket.socket) -> None:
        talk = Talk(sock, self._over)
        self._talks.append(talk)
        try:
            _Session(self, talk).run()
        except Gone:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            sock.close()
            talk.sock.close()


class _Session:
    """A conversation, polite but for what `Host.replies` says."""

    def __init__(self, host: Host, talk: Talk) -> None:
        self.host = host
        self.talk = talk
        self.commands: list[bytes] = []
        self.encrypted = False
        self.sender: bytes | None = None
        self.recipients: list[bytes] = []
        host.commands.append(self.commands)

    def run(self) -> None:
        if self.host.implicit and self.host.tls is not None:
            self.talk.secure(self.host.tls)
            self.encrypted = True
        self.answer("BANNER", b"220 mx.example.org ESMTP\r\n")
        while True:
            line = self.talk.line()
            self.commands.append(line)
            self.obey(line)

    def answer(self, line: str, usual: bytes) -> bytes:
        """Say or do what is due; return what was said."""
        for start, behaviour in self.host.replies.items():
            if line.upper().startswith(start.upper()):
                if callable(behaviour):
                    behaviour(self.talk)
                else:
                    self.talk.say(behaviour)
                return self.talk.said
        self.talk.say(usual)
        return usual

    def obey(self, line: bytes) -> None:
        text = line.decode()
        verb = text.split(" ")[0].upper()
        match verb:
            case "EHLO":
                offered = [*self.host.extensions]
                if self.host.tls is not None and not self.encrypted:
                    offered.append("STARTTLS")
                lines = ["mx.example.org", *offered]
                ehlo = [f"250-{each}\r\n" for each in lines[:-1]] + [f"250 {lines[-1]}\r\n"]
                self.answer(text, "".join(ehlo).encode())
            case "STARTTLS":
                if self.answer(text, b"220 go\r\n").startswith(b"220"):
                    assert self.host.tls is not None
                    self.talk.secure(self.host.tls)
                    self.encrypted = True
            case "MAIL":
                if self.sender is not None:
                    self.talk.say(b"503 5.5.1 nested MAIL\r\n")
                elif self.answer(text, b"250 2.1.0 ok\r\n").startswith(b"2"):
                    self.sender = line
            case "RCPT":
                if self.sender is None:
                    self.talk.say(b"503 5.5.1 MAIL first\r\n")
                elif self.answer(text, b"250 2.1.5 ok\r\n").startswith(b"2"):
                    self.recipients.append(line)
            case "DATA":
                self.data(text)
            case "RSET":
                self.sender, self.recipients = None, []
                self.answer(text, b"250 2.0.0 ok\r\n")
            case "QUIT":
                self.answer(text, b"221 2.0.0 bye\r\n")
                raise Gone
            case _:
                self.answer(text, b"250 2.0.0 ok\r\n")

    def data(self, text: str) -> None:
        usual = b"354 go\r\n" if self.recipients else b"554 5.5.1 no recipients\r\n"
        if not self.answer(text, usual).startswith(b"354"):
            return
        lines: list[bytes] = []
        while (line := self.talk.line()) != b".":
            lines.append(line.removeprefix(b".") + b"\r\n")
        said = self.answer(".", b"250 2.0.0 stored\r\n" if self.recipients else b"554 none\r\n")
        if said.startswith(b"2"):
            self.host.stored.append(
                Stored(self.sender or b"", self.recipients, b"".join(lines), self.encrypted)
            )
        self.sender, self.recipients = None, []


class BlackHole:
    """An address of loopback that answers no attempt to connect: its queue is full."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=0)
        self._callers: list[socket.socket] = []
        end = time.monotonic() + 10
        while time.monotonic() < end:
            caller = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._callers.append(caller)
            caller.connect_ex((address, port))
            time.sleep(0.02)
            if caller.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 1) == b"\x02":  # SYN_SENT
                return
        raise AssertionError("the queue does not fill")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for sock in [*self._callers, self._listener]:
            sock.close()
