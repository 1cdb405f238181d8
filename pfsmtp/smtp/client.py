"""The client's side of the dialogue (RFC 5321), driven by octets: no sockets, files or clocks.

Each method of `Client` is a generator. It yields a step, what is to happen on the connection next;
whoever drives it does that and sends back the octets that came in. When the connection fails, the
driver throws `LinkLost` or `TLSFailed` in, and the generator knows what that means where it stands.

    greet       from the banner to a state in which MAIL may come: EHLO or HELO, STARTTLS, AUTH
    transact    one message for up to as many recipients as the other side takes at a time

A failure that concerns the host, and not the message, is a `HostFailure`: `greet` raises it;
`transact` makes outcomes of it and keeps it in `failure`, after which the connection is of no use.
Which host is asked, whether TLS is required and what becomes of an outcome is left to the caller;
so is whether the message fits the other side (8-bit, SMTPUTF8, SIZE): see `capabilities`.

With PIPELINING, MAIL, all RCPT and DATA leave together (RFC 2920 §3.1), and the final dot with the
end of the message, so that a message costs two exchanges.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias, TypeVar

from pfsmtp.smtp import request
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.remote import (
    BadReply,
    Capabilities,
    RemoteReply,
    ReplyReader,
    read_capabilities,
)
from pfsmtp.smtp.status import Status

T = TypeVar("T")


class Wait(Enum):
    """What is waited for; how long is the driver's business (RFC 5321 §4.5.3.2)."""

    BANNER = "banner"
    HELLO = "hello"
    MAIL = "mail"
    RECIPIENT = "recipient"
    DATA = "data"
    FINAL_DOT = "final_dot"


@dataclass(slots=True)
class Exchange:
    """Send these octets, then wait until some come in."""

    octets: bytes
    wait: Wait
    continued: bool = False  # the wait has begun before, and so has its time


@dataclass(slots=True)
class Transfer:
    """Send these octets of a message; nothing comes back yet."""

    octets: bytes


@dataclass(slots=True)
class StartTLS:
    """Begin TLS, now."""


Step: TypeAlias = Exchange | Transfer | StartTLS
Dialogue: TypeAlias = Generator[Step, bytes, T]


class LinkLost(Exception):
    """The connection failed, or the other side was silent for too long; thrown in by the driver."""

    def __init__(
        self, text: str, *, timed_out: bool = False, sent: bool = True, octets: bytes = b""
    ) -> None:
        """`sent` is false when the step's octets surely did not all leave.

        `octets` came in before the connection broke: what the other side had to say.
        """
        super().__init__(text)
        self.text = text
        self.timed_out = timed_out
        self.sent = sent
        self.octets = octets


class TLSFailed(Exception):
    """TLS could not be had on this connection; the text says why."""


class HostFailure(DeliveryFailure):
    """This host, or this connection to it, is of no use for now (4) or at all (5)."""

    def __init__(self, status: Status, text: str, *, command: str = "") -> None:
        super().__init__(status, text)
        self.command = command  # what was replied to, when the text is a reply


class Content(Protocol):
    """The octets of a message, with CRLF line ends, before dot-stuffing."""

    @property
    def size(self) -> int: ...

    def pieces(self) -> Iterator[bytes]:
        """The octets in order, in pieces of a size that is good to send."""
        ...


class DotStuff(Protocol):
    """Doubles each dot that begins a line; returns whether the next octets begin one, too."""

    def __call__(self, octets: bytes, at_line_start: bool, /) -> tuple[bytes, bool]: ...


class TLSPolicy(Enum):
    """What is done about STARTTLS."""

    NEVER = "never"
    PREFERRED = "preferred"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a smart host (RFC 4954)."""

    login: str
    password: str = field(repr=False)


@dataclass(slots=True)
class Remote:
    """Who is at the other end, as outcomes name it."""

    host: str
    address: str
    tls: str | None = None


@dataclass(slots=True)
class Transaction:
    """What became of each recipient, in order; those in `again` want a transaction of their own."""

    outcomes: list[Outcome]
    again: list[int] = field(default_factory=list)


class Client:
    """The state of a dialogue with one server, from its banner to QUIT."""

    def __init__(self, remote: Remote, hostname: str, *, dot_stuff: DotStuff) -> None:
        self.remote = remote
        self.capabilities = Capabilities()
        self.failure: HostFailure | None = None
        self.encrypted = False
        self._hostname = hostname
        self._dot_stuff = dot_stuff
        self._replies = ReplyReader()
        self._unsent: list[bytes] = []
        self._must_reset = False  # a transaction is open, or may be

    # ------------------------------------------------------------------ opening

    def greet(self, tls: TLSPolicy, credentials: Credentials | None = None) -> Dialogue[None]:
        """Come to a state in which MAIL may be sent. Raises HostFailure and TLSFailed."""
        banner = yield from self._hear(Wait.BANNER, "connection")
        if banner.code != 220:
            raise self._host_failure(banner, "connection")
        yield from self._hello()
        if tls is not TLSPolicy.NEVER:
            yield from self._start_tls(tls)
        if credentials is not None:
            yield from self._authenticate(credentials)

    def _hello(self) -> Dialogue[None]:
        """EHLO, or HELO where EHLO is not known (RFC 5321 §3.2)."""
        self.capabilities = Capabilities()
        reply = yield from self._ask(request.hello("EHLO", self._hostname), Wait.HELLO, "EHLO")
        if reply.kind == 2:
            self.capabilities = read_capabilities(reply.lines)
            return
        if reply.kind == 5:
            # RFC 5321 §4.1.4: whatever the reason why EHLO was refused, HELO is worth a try.
            reply = yield from self._ask(request.hello("HELO", self._hostname), Wait.HELLO, "HELO")
        if reply.kind != 2:
            raise self._host_failure(reply, "HELO")

    def _start_tls(self, tls: TLSPolicy) -> Dialogue[None]:
        """STARTTLS where it is offered, then EHLO again (RFC 3207)."""
        required = tls is TLSPolicy.REQUIRED
        if not self.capabilities.starttls:
            if required:
                raise HostFailure(Status(4, 7, 4), "TLS is required and the host does not offer it")
            return
        reply = yield from self._ask(request.STARTTLS, Wait.HELLO, "STARTTLS")
        if reply.code != 220:
            if required:
                raise self._host_failure(reply, "STARTTLS")
            return
        if not self._replies.is_empty:
            # RFC 3207 §6: what came in clear behind the 220 may be anybody's.
            raise TLSFailed("octets in clear after the reply to STARTTLS")
        yield StartTLS()
        self.encrypted = True
        try:
            # RFC 3207 §4.2: what was offered in clear is forgotten.
            yield from self._hello()
        except LinkLost as lost:
            # In TLS 1.3 the other side may refuse when for us the handshake is over.
            raise TLSFailed(f"the connection failed right after the handshake: {lost.text}") from lost

    def _authenticate(self, credentials: Credentials) -> Dialogue[None]:
        """AUTH PLAIN, or LOGIN where only that is offered (RFC 4954)."""
        if not self.encrypted:
            raise HostFailure(Status(4, 7, 4), "credentials are not sent in clear")
        if "PLAIN" in self.capabilities.authentication:
            answers = [request.auth_plain(credentials.login, credentials.password)]
        elif "LOGIN" in self.capabilities.authentication:
            login, password = credentials.login, credentials.password
            answers = [b"AUTH LOGIN\r\n", *map(request.base64_line, (login, password))]
        else:
            raise HostFailure(Status(4, 7, 4), "the host offers neither AUTH PLAIN nor AUTH LOGIN")
        for number, answer in enumerate(answers, 1):
            reply = yield from self._ask(answer, Wait.HELLO, "AUTH")
            if reply.code != (235 if number == len(answers) else 334):
                raise self._host_failure(reply, "AUTH", kind=4)

    # -------------------------------------------------------------- transaction

    def transact(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        *,
        content: Content,
        eight_bit: bool = False,
        smtputf8: bool = False,
    ) -> Dialogue[Transaction]:
        """Send one message to these recipients, and say what became of each.

        Raises PermanentFailure, before anything was sent, for an address that cannot be said.
        """
        mail = request.mail(
            envelope,
            self.capabilities,
            size=content.size,
            eight_bit=eight_bit,
            smtputf8=smtputf8,
        )
        attempt = _Attempt(self, [mail, *(request.rcpt(r, self.capabilities) for r in recipients)])
        return (yield from attempt.run(content))

