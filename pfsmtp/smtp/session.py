"""The state of a dialogue: what all sessions of a server share, and what is one session's own.

`Server` outlives sessions and never changes; `Session` lasts as long as its connection (STARTTLS
makes it forget what was said before); a `Transaction` is dropped when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from msgspec import Struct

from pfsmtp.config import Limits
from pfsmtp.log import Log
from pfsmtp.smtp.data import Incoming, IncomingMessage
from pfsmtp.smtp.envelope import Encryption, Origin
from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.ports import AccessPolicy, MessageStore, Peer, Receipt
from pfsmtp.smtp.reply import Reply
from pfsmtp.smtp.transaction import Transaction


@dataclass(frozen=True)
class Server:
    """What every session is given: who we are, what we allow, where mail goes."""

    hostname: str
    limits: Limits
    access: AccessPolicy
    store: MessageStore
    log: Log
    clock: Callable[[], float]
    """Monotonic seconds."""
    tls: bool = True
    """STARTTLS can be offered."""
    dsn: bool = False
    """DSN (RFC 3461) is offered: only who relays mail can honour it."""

    @cached_property
    def greeting(self) -> Reply:
        return Reply(220, f"{self.hostname} ESMTP pfsmtp")

    @cached_property
    def hello(self) -> Reply:
        return Reply(250, self.hostname)

    @cached_property
    def extensions(self) -> tuple[Reply, Reply]:
        """The replies to EHLO, in clear and under TLS (RFC 5321 §4.1.1.1)."""
        offered = [
            self.hostname,
            "PIPELINING",  # RFC 2920
            f"SIZE {self.limits.message_size}",  # RFC 1870
            "8BITMIME",  # RFC 6152
            "SMTPUTF8",  # RFC 6531
            "ENHANCEDSTATUSCODES",  # RFC 2034
            "CHUNKING",  # RFC 3030
            f"LIMITS MAILMAX={self.limits.messages} RCPTMAX={self.limits.recipients}",  # RFC 9422
        ]
        if self.dsn:
            offered.append("DSN")  # RFC 3461
        clear = [*offered, "STARTTLS"] if self.tls else offered  # RFC 3207
        return Reply(250, tuple(clear)), Reply(250, tuple(offered))


class Session(Struct):
    """One client's dialogue with us."""

    server: Server
    peer: Peer
    log: Log
    hello: str | None = None
    extended: bool = False
    """EHLO was said, not HELO."""
    transaction: Transaction | None = None
    incoming: Incoming | None = None
    """What takes the octets that come next, when they are not commands."""
    messages: int = 0
    """Transactions begun (RFC 9422 MAILMAX)."""
    accepted: int = 0
    errors: int = 0
    """Refusals since the last message that was accepted."""
    idled: int = 0
    """Commands since then that brought no mail forward."""
    _begun: float = 0.0

    def greet(self, hello: str, *, extended: bool) -> None:
        self.abandon()
        self.hello = hello
        self.extended = extended

    def secure(self, encryption: Encryption) -> None:
        """TLS is up: what was said before may have been said by another (RFC 3207 §4.2)."""
        self.abandon()
        self.hello = None
        self.extended = False
        self.peer.encryption = encryption

    def begin(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.messages += 1
        self._begun = self.server.clock()

    def has_idled(self) -> bool:
        """Count a command that brings no mail forward; whether the client has to go for it.

        Above the limit each counts as an error: the client is slowed first.
        """
        limits = self.server.limits
        self.idled += 1
        if self.idled <= limits.idle_commands:
            return False
        self.errors += 1
        return self.errors >= limits.errors_close

    def abandon(self) -> None:
        """Drop the transaction, and with it what has come of its message."""
        transaction, self.transaction = self.transaction, None
        self.incoming = None
        if transaction is not None and transaction.message is not None:
            transaction.message.abandon()

    def receive(self, transaction: Transaction) -> IncomingMessage:
        """Begin to take the message of this transaction in. Raises DeliveryFailure."""
        server = self.server
        intake = server.store.begin(transaction.envelope(), self._origin(transaction))
        message = IncomingMessage(intake, server.store, server.limits)
        transaction.message = message
        return message

    def conclude(self, result: Receipt | Reply) -> Reply:
        """The transaction has ended, with a message that is safe or with a refusal."""
        transaction, self.transaction = self.transaction, None
        assert transaction is not None
        assert transaction.message is not None
        if isinstance(result, Reply):
            event, reason, files = "message-refused", f"{result.code} {result.lines[0]}", None
        else:
            event, reason, files = "message-accepted", None, list(result.files)
        self.log.event(
            event,
            id=transaction.message.intake.id,
            client=self.peer.address,
            tls=self.peer.encryption.version if self.peer.encryption else None,
            sender=str(transaction.reverse_path or ""),
            recipients=[str(recipient.mailbox) for recipient in transaction.recipients],
            size=transaction.message.decoder.size,
            seconds=self.server.clock() - self._begun,
            reason=reason,
            cause=transaction.message.cause and str(transaction.message.cause),
            files=files,
        )
        if isinstance(result, Reply):
            return result
        self.accepted += 1
        self.errors = self.idled = 0
        return Reply(250, f"Message {result.id} is safe", (0, 0))

    def report(self, failure: DeliveryFailure) -> None:
        """Log a failure that is not the end of a message."""
        self.log.event("failure", reason=str(failure), cause=str(failure.__cause__))

    def _origin(self, transaction: Transaction) -> Origin:
        return Origin(
            self.peer.address,
            self.hello or "",
            self._protocol(transaction),
            self.server.hostname,
            self.peer.encryption,
        )

    def _protocol(self, transaction: Transaction) -> str:
        """The keyword of the Received field (RFC 3848, RFC 6531 §4.3)."""
        if not self.extended:
            return "SMTP"
        secured = "S" if self.peer.encryption else ""
        return f"UTF8SMTP{secured}" if transaction.parameters.smtputf8 else f"ESMTP{secured}"
