"""One connection to a remote host, driven through the client's dialogue.

The dialogue says what is to happen next; this does it on the stream, within the time budgets, and
tells the dialogue what came of it. Here OSError becomes `LinkLost` and `TLSFailed`.

The time to wait for each reply is a total: a host that sends an octet now and then does not gain by
it. Neither does one that answers each command at the last moment, since the opening and the
commands of a transaction have a total, too. Only the wait for the reply to the final dot is never
cut short: who gives up too early there makes a duplicate (RFC 5321 §4.5.3.2.6).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pfsmtp.config import Timeouts
from pfsmtp.net.client_stream import NotSent
from pfsmtp.smtp.client import Client, Credentials, TLSPolicy, request
from pfsmtp.smtp.client.conversation import (
    Dialogue,
    Exchange,
    LinkLost,
    StartTLS,
    Step,
    TLSFailed,
    Transfer,
    Wait,
)
from pfsmtp.smtp.client.transaction import Content, TransactionResult
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.tls import describe

T = TypeVar("T")


class Stream(Protocol):
    """A connection to a server; `pfsmtp.net.client_stream.ClientStream` is one."""

    def exchange(self, octets: bytes, deadline: float) -> bytes: ...

    def send(self, octets: bytes, deadline: float) -> None: ...

    def start_tls(
        self, context: ssl.SSLContext, name: str | None, deadline: float
    ) -> ssl.SSLObject: ...

    def last_words(self) -> bytes: ...

    def is_quiet(self) -> bool: ...

    def say_last(self, octets: bytes) -> None: ...

    def close(self) -> None: ...


class Judge(Protocol):
    """Says whether the certificate of a connection is good for a host: `valid`, or what is not."""

    def __call__(self, connection: ssl.SSLObject, host: str, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Budgets:
    """Seconds; see `Timeouts` for those of one step."""

    timeouts: Timeouts
    alone: float = 4.0  # for an address to connect before the next is tried as well
    handshake: float = 60.0  # at most, and no more than for the reply to EHLO
    opening: float = 600.0  # from the banner until MAIL may be said
    commands: float = 1200.0  # from MAIL to the 354
    rate: int = 8192  # octets of a message a second, at least, beyond that

    def of_waits(self) -> Mapping[Wait, float]:
        return {wait: float(getattr(self.timeouts, wait)) for wait in Wait}


class Connection:
    """A connection to one address of one host."""

    def __init__(
        self,
        stream: Stream,
        client: Client,
        *,
        budgets: Budgets,
        clock: Callable[[], float],
    ) -> None:
        self.messages = 0  # sent over it
        self.idle_since = 0.0
        self.downgraded = False  # TLS was offered and could not be had
        self.client = client
        self.address = client.remote.address
        self._stream = stream
        self._budgets = budgets
        self._clock = clock
        self._waits = budgets.of_waits()
        self._deadline = 0.0
        self._ends = 0.0
        self._secure: tuple[ssl.SSLContext, Judge] | None = None

    def open(
        self,
        policy: TLSPolicy,
        credentials: Credentials | None,
        *,
        context: ssl.SSLContext,
        judge: Judge,
    ) -> None:
        """Come to where MAIL may be said. Raises HostFailure, TLSFailed."""
        self._secure = (context, judge)
        self._ends = self._clock() + self._budgets.opening
        self._run(self.client.greet(policy, credentials))

    def send(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        *,
        content: Content,
        eight_bit: bool,
        smtputf8: bool,
        spare_530: bool,
    ) -> TransactionResult:
        """Send one message; see `Client.transact`."""
        self.messages += 1
        budgets = self._budgets
        self._ends = self._clock() + budgets.commands + content.size / budgets.rate
        return self._run(
            self.client.transact(
                envelope,
                recipients,
                content=content,
                eight_bit=eight_bit,
                smtputf8=smtputf8,
                spare_530=spare_530,
            )
        )

    def is_quiet(self) -> bool:
        """Whether the host has said nothing since it was last asked something."""
        return self._stream.is_quiet()

    def say_quit(self) -> None:
        """Take leave; whoever cares for the reply waits until the connection is not quiet."""
        self._stream.say_last(request.QUIT)

    def close(self) -> None:
        self._stream.close()

    def _run(self, dialogue: Dialogue[T]) -> T:
        try:
            step = next(dialogue)
            while True:
                try:
                    received = self._take(step)
                except (LinkLost, TLSFailed) as failure:
                    step = dialogue.throw(failure)
                else:
                    step = dialogue.send(received)
        except StopIteration as end:
            result: T = end.value
            return result

    def _take(self, step: Step) -> bytes:
        if isinstance(step, Exchange):
            return self._exchange(step)
        now = self._clock()
        if isinstance(step, Transfer):
            self._transfer(step.octets, min(now + self._budgets.timeouts.block, self._ends))
        else:
            seconds = min(self._budgets.handshake, self._waits[Wait.HELLO])
            self._start_tls(step, min(now + seconds, self._ends))
        return b""

    def _exchange(self, step: Exchange) -> bytes:
        if not step.continued:
            self._deadline = self._clock() + self._waits[step.wait]
            if step.wait is not Wait.FINAL_DOT:
                self._deadline = min(self._deadline, self._ends)
        try:
            received = self._stream.exchange(step.octets, self._deadline)
        except NotSent as failure:
            raise self._lost(failure.__cause__, sent=False) from failure
        except OSError as failure:
            raise self._lost(failure, sent=True) from failure
        if not received:
            raise LinkLost("closed the connection")
        return received

    def _transfer(self, octets: bytes, deadline: float) -> None:
        try:
            self._stream.send(octets, deadline)
        except NotSent as failure:
            raise self._lost(failure.__cause__, sent=False) from failure

    def _lost(self, failure: BaseException | None, *, sent: bool) -> LinkLost:
        if isinstance(failure, TimeoutError):
            return LinkLost("did not answer in time", sent=sent)
        if isinstance(failure, ConnectionAbortedError):
            return LinkLost("did not read what it was sent", sent=sent)
        text = f"broke the connection ({explain(failure)})"
        return LinkLost(text, sent=sent, last_words=self._stream.last_words())

    def _start_tls(self, step: StartTLS, deadline: float) -> None:
        assert self._secure is not None
        context, judge = self._secure
        remote = self.client.remote
        name = tls_name(remote.host)
        try:
            state = self._stream.start_tls(context, name, deadline)
        except (OSError, NotSent, ValueError) as failure:
            cause = failure.__cause__ if isinstance(failure, NotSent) else failure
            raise TLSFailed(explain(cause)) from failure
        encryption = describe(state)
        # Whom the context verifies has been found good, or the handshake had failed.
        verified = context.verify_mode is ssl.CERT_REQUIRED
        verdict = "valid" if verified else judge(state, name)
        remote.tls = f"{encryption.version} {encryption.cipher}, certificate {verdict}"


def tls_name(host: str) -> str:
    """The name that a host's certificate is to have, of a name or an address literal."""
    if host.startswith("["):
        return host[1:-1].removeprefix("IPv6:")
    return host.rstrip(".")


def explain(failure: BaseException | None) -> str:
    """What went wrong, without this machine's details."""
    if isinstance(failure, TimeoutError):
        return "timeout"
    if isinstance(failure, ssl.SSLCertVerificationError):
        return failure.verify_message
    if isinstance(failure, ssl.SSLError):
        return (failure.reason or "TLS error").lower().replace("_", " ")
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror.lower()
    return str(failure)
