"""A remote host of the test's own: takes mail at several addresses of loopback, and keeps count.

Nothing is kept of a message but its number, and that it was whole. How it is treated is in the
recipient's local-part, whose first word is a `Treatment`; so the host needs no plan, and it can be
told from the address alone what is to become of a message. Its second address offers STARTTLS.

A thread for each connection. What a client does wrong is a fault; that it goes away is not.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from random import Random

from pfsmtp.crashtest.message import recognise
from pfsmtp.crashtest.remote import Arrival, Report, number_of, read_report, sender

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")

_ENCRYPTED = ADDRESSES[1]
_OFFERED = ("PIPELINING", "8BITMIME", "SIZE 100000000", "ENHANCEDSTATUSCODES")
_PATH = re.compile(r"(?:MAIL FROM|RCPT TO):<([^>]*)>", re.IGNORECASE)
_END_OF_DATA = b"\r\n.\r\n"
_PATIENCE = 300.0
_MAILBOXES = 10
_WAIT = 2.0


class Treatment(Enum):
    """What is done with mail for a recipient."""

    TAKE = "take"
    DEFER = "defer"  # once
    REFUSE = "refuse"
    WAIT = "wait"  # with the reply
    LEAVE = "leave"  # take it, and once hang up in place of the reply
    NEVER = "never"  # deferred for ever


_SHARES = {
    Treatment.TAKE: 0.827,
    Treatment.DEFER: 0.08,
    Treatment.REFUSE: 0.04,
    Treatment.WAIT: 0.02,
    Treatment.LEAVE: 0.03,
    Treatment.NEVER: 0.003,
}


def treatment(mailbox: str) -> Treatment:
    """How mail for this mailbox is treated; what names none of these is taken."""
    try:
        return Treatment(mailbox.partition(".")[0].lower())
    except ValueError:
        return Treatment.TAKE


class Sink:
    """Implements `remote.Remote`."""

    subjects = ()

    def __init__(self, port: int, run: str, context: ssl.SSLContext | None) -> None:
        """Listen. `context` is a server's, for STARTTLS. Raises OSError."""
        self.port = port
        self.run = run
        self.context = context
        self.arrivals: list[Arrival] = []
        self.reports: list[Report] = []
        self.faults: list[str] = []
        self.once: set[tuple[int, str]] = set()  # what was done once, and is not done again
        self._listeners: list[socket.socket] = []
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        try:
            for address in ADDRESSES:
                self._listeners.append(socket.create_server((address, port), backlog=100))
        except OSError:
            self.close()
            raise
        for listener in self._listeners:
            _start(lambda listener=listener: self._accept(listener))  # type: ignore[misc]

    def pick(self, random: Random) -> str:
        kind = random.choices(list(_SHARES), list(_SHARES.values()))[0]
        mailbox = f"{kind.value}.{random.randrange(_MAILBOXES)}"
        return f"{mailbox}@[{random.choice(ADDRESSES)}]"

    def takes(self, recipient: str) -> bool:
        return treatment(recipient) is not Treatment.NEVER

    def sender(self, number: int) -> str:
        return sender(number, f"[{ADDRESSES[0]}]")

    def begin(self) -> None:
        """It has listened since it was made."""

    def finish(self) -> list[str]:
        self.close()
        return []

    def close(self) -> None:
        with self._lock:
            connections, self._connections = list(self._connections), set()
        for sock in [*self._listeners, *connections]:
            with suppress(OSError):
                # Not of SSLSocket, which takes the TLS away from under the other thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for listener in self._listeners:
            listener.close()

    def first_time(self, number: int, recipient: str) -> bool:
        """Whether this is asked for the first time of a message and a recipient."""
        key = (number, recipient)
        with self._lock:
            if key in self.once:
                return False
            self.once.add(key)
            return True

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            _start(lambda sock=sock: self._serve(sock))  # type: ignore[misc]

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(_PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._connections.add(sock)
        session = _Session(self, sock)
        try:
            session.run()
        except (_Gone, OSError, ValueError):
            session.note_loss()
        except Exception as error:
            self.faults.append(f"the sink has a bug: {error!r}")
        finally:
            with self._lock:
                self._connections.discard(sock)
            session.close()


class _Gone(Exception):
    """The client has gone, or is to."""


class _Session:
    """One connection of a client."""

    def __init__(self, sink: Sink, sock: socket.socket) -> None:
        self._sink = sink
        self._socket = sock
        self._offers_tls = sink.context is not None and sock.getsockname()[0] == _ENCRYPTED
        self._received = b""
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._taken: list[Arrival] = []  # over this connection

    def run(self) -> None:
        """Raises _Gone, OSError."""
        self._say("220 sink.crashtest.invalid ESMTP")
        while True:
            line = self._line()
            verb = line.partition(" ")[0].upper()
            match verb:
                case "EHLO":
                    self._hello()
                case "STARTTLS" if self._offers_tls and self._sink.context is not None:
                    self._say("220 2.0.0 Go ahead")
                    self._socket = self._sink.context.wrap_socket(self._socket, server_side=True)
                    self._offers_tls = False
                case "MAIL":
                    self._mail(line)
                case "RCPT":
                    self._rcpt(line)
                case "DATA":
                    self._data()
                case "RSET" | "NOOP":
                    self._reset()
                    self._say("250 2.0.0 Ok")
                case "QUIT":
                    self._say("221 2.0.0 Bye")
                    return
                case _:
                    self._say("502 5.5.1 Not here")

    def note_loss(self) -> None:
        """Without a QUIT nobody knows what the client has heard, or noted down."""
        for arrival in self._taken:
            arrival.cut = True

    def close(self) -> None:
        self._socket.close()

    def _hello(self) -> None:
        offered = [*_OFFERED, "STARTTLS"] if self._offers_tls else list(_OFFERED)
        words = ["sink.crashtest.invalid", *offered]
        self._say(*[f"250-{word}" for word in words[:-1]], f"250 {words[-1]}")

    def _mail(self, line: str) -> None:
        found = _PATH.match(line)
        if found is None or self._sender is not None:
            self._say("503 5.5.1 Not now, or not so")
            return
        self._sender = found[1]
        self._say("250 2.1.0 Ok")

    def _rcpt(self, line: str) -> None:
        found = _PATH.match(line)
        if found is None or self._sender is None:
            self._say("503 5.5.1 Not now, or not so")
            return
        recipient = found[1]
        number = number_of(self._sender)
        match treatment(recipient):
            case Treatment.REFUSE:
                self._say("550 5.1.1 There is nobody of that name")
                return
            case Treatment.NEVER:
                self._say("450 4.2.1 Not today")
                return
            case Treatment.DEFER if number is not None and self._sink.first_time(number, recipient):
                self._say("450 4.2.1 Not now")
                return
        self._recipients.append(recipient)
        self._say("250 2.1.5 Ok")

    def _data(self) -> None:
        if not self._recipients:
            self._say("554 5.5.1 No recipients")
            return
        self._say("354 Go ahead")
        octets = self._message()
        now = time.time()
        sender, recipients = self._sender or "", self._recipients
        self._reset()
        number = number_of(sender)
        leaving = any(
            treatment(recipient) is Treatment.LEAVE
            and number is not None
            and self._sink.first_time(number, recipient)
            for recipient in recipients
        )
        take = self._take_report if sender == "" else self._take
        take(octets, number, recipients, now=now, unanswered=leaving)
        if leaving:
            raise _Gone
        if any(treatment(recipient) is Treatment.WAIT for recipient in recipients):
            time.sleep(_WAIT)
        self._say("250 2.0.0 Taken")

    def _take(
        self,
        octets: bytes,
        number: int | None,
        recipients: Sequence[str],
        *,
        now: float,
        unanswered: bool,
    ) -> None:
        seen = recognise(self._sink.run, octets)
        if seen.fault or seen.number != number or number is None:
            what = seen.fault or f"it is number {seen.number} and came as number {number}"
            self._sink.faults.append(f"the remote got a message for {recipients}: {what}")
            return
        arrivals = [Arrival(number, recipient, now, unanswered) for recipient in recipients]
        self._taken += arrivals
        self._sink.arrivals += arrivals

    def _take_report(
        self,
        octets: bytes,
        number: int | None,
        recipients: Sequence[str],
        *,
        now: float,
        unanswered: bool,
    ) -> None:
        for recipient in recipients:
            about = number_of(recipient)
            report = None if about is None else read_report(octets, about, at=now)
            if report is None:
                self._sink.faults.append(f"the remote got no whole report, for {recipient}")
            else:
                self._sink.reports.append(report)

    def _reset(self) -> None:
        self._sender, self._recipients = None, []

    def _message(self) -> bytes:
        """The octets up to the final dot, dot-stuffing undone (RFC 5321 §4.5.2)."""
        pieces = bytearray(b"\r\n" + self._received)
        looked = 0
        while (end := pieces.find(_END_OF_DATA, looked)) < 0:
            looked = max(len(pieces) - len(_END_OF_DATA), 0)
            pieces += self._receive()
        self._received = bytes(pieces[end + len(_END_OF_DATA) :])
        return bytes(pieces[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    def _line(self) -> str:
        while b"\r\n" not in self._received:
            self._received += self._receive()
        line, _, self._received = self._received.partition(b"\r\n")
        return line.decode("utf-8", "replace")

    def _receive(self) -> bytes:
        octets = self._socket.recv(65536)
        if not octets:
            raise _Gone
        return octets

    def _say(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())


def _start(target: Callable[[], None]) -> None:
    threading.Thread(target=target, daemon=True).start()
