"""The client's side of the dialogue (RFC 5321), driven by octets: no sockets, files or clocks.

    greet       from the banner to a state in which MAIL may come: EHLO or HELO, STARTTLS, AUTH
    transact    one message for up to as many recipients as the other side takes at a time

Both are dialogues, see `conversation`. A failure that concerns the host, and not the message, is a
`HostFailure`: `greet` raises it; `transact` makes outcomes of it and keeps it in `failure`, after
which the connection is of no use. Which host is asked, whether TLS is required and what becomes of
an outcome is left to the caller; so is whether the message fits the other side (8-bit, SMTPUTF8,
SIZE): see `capabilities`. QUIT is the caller's too: when nothing more is to be said, its reply is
not worth a dialogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from pfsmtp.smtp.client import request
from pfsmtp.smtp.client.conversation import (
    Conversation,
    Dialogue,
    HostFailure,
    TLSFailed,
    Wait,
)
from pfsmtp.smtp.client.remote import Capabilities, RemoteReply, read_capabilities
from pfsmtp.smtp.client.transaction import (
    ClientTransaction,
    Content,
    DotStuff,
    Remote,
    TransactionResult,
)
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.status import Status

# RFC 3463 §3.8: security features not supported.
NO_TLS = Status(4, 7, 4)


class TLSPolicy(Enum):
    """What is done about encryption."""

    NEVER = "never"
    PREFERRED = "preferred"
    REQUIRED = "required"
    IMPLICIT = "implicit"  # from the first octet, without STARTTLS (RFC 8314 §3.3)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a smart host (RFC 4954)."""

    login: str
    password: str = field(repr=False)


class Client:
    """The state of a dialogue with one server, from its banner to QUIT."""

    def __init__(self, remote: Remote, hostname: str, *, dot_stuff: DotStuff) -> None:
        self.remote = remote
        self.capabilities = Capabilities()
        self.failure: DeliveryFailure | None = None
        self._hostname = hostname
        self._dot_stuff = dot_stuff
        self._talk = Conversation()
        self._encrypted = False
        self._must_reset = False  # a transaction may be open that never came to its end

    def is_usable(self) -> bool:
        """Whether another message may be sent."""
        return self.failure is None and self._talk.is_in_step()

    # ------------------------------------------------------------------ opening

    def greet(self, tls: TLSPolicy, credentials: Credentials | None = None) -> Dialogue[None]:
        """Come to a state in which MAIL may be sent. Raises HostFailure and TLSFailed."""
        if tls is TLSPolicy.IMPLICIT:
            yield from self._talk.start_tls()
            self._encrypted = True
        banner = yield from self._talk.hear(Wait.BANNER, "connection")
        # RFC 5321 §3.1: 554 is "no SMTP service here"; any other code but 220 does no better.
        if banner.code != 220:
            raise HostFailure.from_reply(banner, "connection")
        yield from self._hello()
        if tls in (TLSPolicy.PREFERRED, TLSPolicy.REQUIRED):
            yield from self._start_tls(required=tls is TLSPolicy.REQUIRED)
        if credentials is not None:
            yield from self._authenticate(credentials)

    def _hello(self) -> Dialogue[None]:
        """EHLO, or HELO where EHLO is refused (RFC 5321 §3.2, §4.1.4)."""
        self.capabilities = Capabilities()
        reply = yield from self._introduce("EHLO")
        if reply.kind == 2:
            self.capabilities = read_capabilities(reply.lines)
        elif reply.kind == 5:
            reply = yield from self._introduce("HELO")
            if reply.kind != 2:
                raise HostFailure.from_reply(reply, "HELO")
        else:
            raise HostFailure.from_reply(reply, "EHLO")

    def _introduce(self, verb: str) -> Dialogue[RemoteReply]:
        hello = request.hello(verb, self._hostname)
        return (yield from self._talk.ask(hello, Wait.HELLO, command=verb))

    def _start_tls(self, *, required: bool) -> Dialogue[None]:
        """STARTTLS where it is offered, then EHLO again (RFC 3207)."""
        if not self.capabilities.starttls:
            if required:
                raise HostFailure(NO_TLS, "does not offer TLS, which is required")
            return
        reply = yield from self._talk.ask(request.STARTTLS, Wait.HELLO, command="STARTTLS")
        if reply.code != 220:
            if required:
                raise HostFailure.from_reply(reply, "STARTTLS")
            return
        yield from self._talk.start_tls()
        self._encrypted = True
        try:
            # RFC 3207 §4.2: what was offered in clear is forgotten.
            yield from self._hello()
        except HostFailure as failure:
            if failure.lost is None:
                raise
            # In TLS 1.3 the other side may still refuse when for us the handshake is over.
            raise TLSFailed(f"{failure.text}, right after the handshake") from failure

    def _authenticate(self, credentials: Credentials) -> Dialogue[None]:
        """AUTH PLAIN, or LOGIN where only that is offered (RFC 4954)."""
        if not self._encrypted:
            raise HostFailure(NO_TLS, "would be sent credentials in clear")
        if "PLAIN" in self.capabilities.authentication:
            answers = [request.auth_plain(credentials.login, credentials.password)]
        elif "LOGIN" in self.capabilities.authentication:
            said = (credentials.login, credentials.password)
            answers = [b"AUTH LOGIN\r\n", *map(request.base64_line, said)]
        else:
            raise HostFailure(NO_TLS, "offers neither AUTH PLAIN nor AUTH LOGIN")
        for left, answer in zip(reversed(range(len(answers))), answers, strict=True):
            reply = yield from self._talk.ask(answer, Wait.HELLO, command="AUTH")
            if reply.code != (334 if left else 235):
                # A wrong password is the operator's to mend: no mail is bounced for it.
                raise HostFailure(Status(4, 7, 8), reply.text, command="AUTH")

    # -------------------------------------------------------------- transaction

    def transact(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        *,
        content: Content,
        eight_bit: bool = False,
        smtputf8: bool = False,
        spare_530: bool = False,
    ) -> Dialogue[TransactionResult]:
        """Send one message to these recipients, and say what became of each.

        `eight_bit` and `smtputf8` say what the message needs; `spare_530`, that the sender is not
        to pay for a 530 (RFC 4954 §6: encrypt, or log in, first). Raises PermanentFailure, before
        anything was sent, for an address that cannot be said.
        """
        mail = request.mail(
            envelope,
            self.capabilities,
            size=content.size,
            eight_bit=eight_bit,
            smtputf8=smtputf8,
        )
        transaction = ClientTransaction(
            self._talk,
            self.remote,
            capabilities=self.capabilities,
            mail=mail,
            recipients=[request.rcpt(recipient, self.capabilities) for recipient in recipients],
            reset=self._must_reset,
            dot_stuff=self._dot_stuff,
            spare_530=spare_530,
        )
        result = yield from transaction.run(content)
        self.failure = result.failure
        self._must_reset = transaction.is_open
        return result
