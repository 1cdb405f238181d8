"""One client: connection after connection, message after message, each sent once.

What it was answered goes into the ledger at once. A connection that is lost is nothing to worry
about here: the server is killed all the time. It goes on with its next message.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from pfsmtp.crashtest.dialogue import Dialogue, Hang, Lost, lines, stuffed
from pfsmtp.crashtest.ledger import Ledger, Sent
from pfsmtp.crashtest.message import Paper, compose
from pfsmtp.crashtest.workload import Form, Order, Protection, Visit

_AGAIN = 0.02  # seconds after a connection that failed
_WAIT = 0.05  # seconds, while there is no room for more
_PIECES = 8  # of a message that is sent haltingly
_HALT = 0.005


@dataclass(frozen=True, slots=True)
class Server:
    """Where the clients go; `tls_port` is None where TLS does not begin with the first octet."""

    host: str
    port: int
    tls_port: int | None
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Post:
    """What all clients share. `has_room` says whether more may be sent just now."""

    run: str
    server: Server
    ledger: Ledger
    paper: Paper
    sender: Callable[[int], str]
    has_room: Callable[[], bool]


class Client(threading.Thread):
    """Sends until it is told to stop, and then finishes the message it is at."""

    def __init__(self, post: Post, visits: Iterator[Visit], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._post = post
        self._visits = visits
        self._stop_wanted = stop
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for visit in self._visits:
                if self._stop_wanted.is_set():
                    return
                self._go(visit)
        except BaseException as error:
            # A bug of ours; whoever waits for this thread raises it.
            self.error = error

    def _go(self, visit: Visit) -> None:
        """Connect and send; what cannot be sent any more goes over the next connection."""
        orders = list(visit.orders)
        while orders and not self._stop_wanted.is_set():
            try:
                dialogue = self._connect(visit.protection)
            except Lost:
                self._stop_wanted.wait(_AGAIN)
                continue
            try:
                self._send_all(dialogue, orders)
            except Lost as lost:
                if isinstance(lost, Hang):
                    self._post.ledger.note_hang()
                self._stop_wanted.wait(_AGAIN)
            finally:
                dialogue.close()

    def _connect(self, protection: Protection) -> Dialogue:
        """Come to where MAIL may be said. Raises Lost."""
        server = self._post.server
        implicit = protection is Protection.TLS and server.tls_port is not None
        port = server.tls_port if implicit and server.tls_port is not None else server.port
        dialogue = Dialogue((server.host, port))
        try:
            if implicit:
                dialogue.secure(server.context)
            if not (dialogue.hear().accepts and dialogue.hello().accepts):
                raise Lost("turned away")
            if protection is Protection.STARTTLS and "STARTTLS" in dialogue.offered:
                if not dialogue.ask("STARTTLS").accepts:
                    raise Lost("STARTTLS was refused")
                dialogue.secure(server.context)
                dialogue.hello()
        except BaseException:
            dialogue.close()
            raise
        return dialogue

    def _send_all(self, dialogue: Dialogue, orders: list[Order]) -> None:
        """Send what is left of the orders. Raises Lost."""
        while orders and not self._stop_wanted.is_set():
            if not self._post.has_room():
                self._stop_wanted.wait(_WAIT)
                continue
            order = orders.pop(0)
            post = self._post
            sent = post.ledger.open(order.number, order.recipients)
            body = post.paper.body(order.number, order.size, Random(order.number))
            sender = post.sender(order.number)
            message = compose(post.run, order.number, sender, body)
            _Transaction(dialogue, post.ledger, sent, order).run(sender, message)
        if not orders:
            dialogue.ask("QUIT")


class _Transaction:
    """One message, in the form that its order says. Everything here raises Lost."""

    def __init__(self, dialogue: Dialogue, ledger: Ledger, sent: Sent, order: Order) -> None:
        self._dialogue = dialogue
        self._ledger = ledger
        self._sent = sent
        self._order = order

    def run(self, sender: str, message: bytes) -> None:
        mail = f"MAIL FROM:<{sender}> BODY=8BITMIME"
        rcpts = [f"RCPT TO:<{recipient}>" for recipient in self._order.recipients]
        offered = self._dialogue.offered
        form = self._order.form
        if form in (Form.CHUNK, Form.CHUNKS) and "CHUNKING" not in offered:
            form = Form.PIPELINED
        if form is Form.PIPELINED and "PIPELINING" not in offered:
            form = Form.STEPS
        match form:
            case Form.STEPS:
                self._in_steps([mail, *rcpts], message)
            case Form.PIPELINED:
                self._pipelined([mail, *rcpts], message)
            case Form.CHUNK:
                self._in_one_chunk([mail, *rcpts], message)
            case Form.CHUNKS:
                self._in_chunks([mail, *rcpts], message)

    def _in_steps(self, envelope: list[str], message: bytes) -> None:
        accepted = self._accepted([self._dialogue.ask(command).accepts for command in envelope])
        if accepted and self._dialogue.ask("DATA").accepts:
            self._send(stuffed(message))
            self._conclude(accepted)
        else:
            self._give_up()

    def _pipelined(self, envelope: list[str], message: bytes) -> None:
        self._dialogue.send(lines([*envelope, "DATA"]))
        replies = self._dialogue.hear_all(len(envelope) + 1)
        accepted = self._accepted([reply.accepts for reply in replies[:-1]])
        if replies[-1].accepts:
            self._send(stuffed(message))
            self._conclude(accepted)
        else:
            self._give_up()

    def _in_one_chunk(self, envelope: list[str], message: bytes) -> None:
        self._send(lines([*envelope, f"BDAT {len(message)} LAST"]) + message)
        replies = self._dialogue.hear_all(len(envelope))
        self._conclude(self._accepted([reply.accepts for reply in replies]))

    def _in_chunks(self, envelope: list[str], message: bytes) -> None:
        self._dialogue.send(lines(envelope))
        replies = self._dialogue.hear_all(len(envelope))
        accepted = self._accepted([reply.accepts for reply in replies])
        first, second = len(message) // 3, len(message) // 2
        for chunk in (message[:first], message[first:second]):
            self._send(lines([f"BDAT {len(chunk)}"]) + chunk)
            if not self._dialogue.hear().accepts:
                self._give_up()
                return
        last = message[second:]
        self._send(lines([f"BDAT {len(last)} LAST"]) + last)
        self._conclude(accepted)

    def _accepted(self, replies: list[bool]) -> tuple[str, ...]:
        """The recipients that were accepted, going by the replies to MAIL and each RCPT."""
        if not replies[0]:
            return ()
        return tuple(
            recipient
            for recipient, accepted in zip(self._order.recipients, replies[1:], strict=True)
            if accepted
        )

    def _send(self, octets: bytes) -> None:
        if not self._order.halting:
            self._dialogue.send(octets)
            return
        step = len(octets) // _PIECES + 1
        for start in range(0, len(octets), step):
            self._dialogue.send(octets[start : start + step])
            time.sleep(_HALT)

    def _conclude(self, accepted: tuple[str, ...]) -> None:
        """Hear what becomes of a message that has been sent to its end."""
        if self._dialogue.hear().accepts:
            self._ledger.acknowledge(self._sent, accepted)
        else:
            self._ledger.refuse(self._sent)

    def _give_up(self) -> None:
        """It was refused before its end."""
        self._ledger.refuse(self._sent)
        self._dialogue.ask("RSET")
