"""One mail transaction as the client has it: MAIL, RCPT, DATA, the message, the final dot.

With PIPELINING, MAIL, all RCPT and DATA leave together (RFC 2920 §3.1), and the final dot with the
end of the message, so that a message costs two exchanges. Without it each command waits for the
reply to the one before, and DATA is not said unless a recipient was taken.

Every recipient gets exactly one outcome, whatever happens. A connection that is lost after the
final dot left and before the reply came leaves it open whether the message was taken: such outcomes
are deferred and marked `uncertain`, since nobody can know better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from pfsmtp.smtp.client import request
from pfsmtp.smtp.client.conversation import BAD_PROTOCOL, Conversation, Dialogue, HostFailure, Wait
from pfsmtp.smtp.client.remote import Capabilities, RemoteReply
from pfsmtp.smtp.errors import DeliveryFailure, PermanentFailure
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status

# RFC 3463 §3.6: too many recipients.
_TOO_MANY = (5, 3)


class Content(Protocol):
    """The octets of a message, with CRLF line ends, before dot-stuffing."""

    @property
    def size(self) -> int: ...

    def pieces(self) -> Iterator[bytes]:
        """The octets in order, in pieces that are good to send; no CRLF is cut in two.

        Raises DeliveryFailure when they cannot be had.
        """
        ...


class DotStuff(Protocol):
    """Doubles each dot that begins a line; returns whether the next octets begin one, too."""

    def __call__(self, octets: bytes, at_line_start: bool, /) -> tuple[bytes, bool]: ...


@dataclass(slots=True)
class Remote:
    """Who is at the other end, as outcomes name it."""

    host: str
    address: str
    tls: str | None = None


class TransactionResult(Struct):
    """What became of each recipient, in order."""

    outcomes: list[Outcome]
    again: list[int]  # those that were too many for one transaction; another may take them
    failure: DeliveryFailure | None  # why the connection is of no further use
    untouched: bool  # it failed before any reply to this transaction but 421


class ClientTransaction:
    """From MAIL to the reply to the final dot."""

    def __init__(
        self,
        talk: Conversation,
        remote: Remote,
        *,
        capabilities: Capabilities,
        mail: bytes,
        recipients: list[bytes],
        reset: bool,
        dot_stuff: DotStuff,
        spare_530: bool,
    ) -> None:
        self.is_open = reset
        self._talk = talk
        self._remote = remote
        self._grouped = capabilities.pipelining
        self._notifies = capabilities.dsn
        self._mail = mail
        self._recipients = recipients
        self._dot_stuff = dot_stuff
        self._spare_530 = spare_530
        self._outcomes: dict[int, Outcome] = {}
        self._accepted: list[int] = []
        self._again: list[int] = []
        self._answered = False
        self._dot_sent = False

    def run(self, content: Content) -> Dialogue[TransactionResult]:
        """Go through with it. Failures become outcomes."""
        failure: DeliveryFailure | None = None
        try:
            yield from self._run(content)
        except DeliveryFailure as error:
            failure = error
            self._give_up(error)
        return TransactionResult(
            [self._outcomes[number] for number in range(len(self._recipients))],
            self._again,
            failure,
            untouched=not self._answered,
        )

    def _run(self, content: Content) -> Dialogue[None]:
        if self._grouped:
            self._say_group()
        if self.is_open:
            yield from self._reset()
        taken = yield from self._say_sender()
        if taken or self._grouped:
            yield from self._say_recipients(ignored=not taken)
        if self._accepted or self._grouped:
            yield from self._say_data(content)

    def _say_group(self) -> None:
        """RFC 2920 §3.1: DATA may be in the group, as its last command."""
        if self.is_open:
            self._talk.say(request.RSET, "RSET")
        self._talk.say(self._mail, "MAIL")
        for octets in self._recipients:
            self._talk.say(octets, "RCPT")
        self._talk.say(request.DATA, "DATA")

    def _ask(self, octets: bytes, wait: Wait, *, command: str) -> Dialogue[RemoteReply]:
        """Have the reply to a command, which has been said if there is a group."""
        if not self._grouped:
            self._talk.say(octets, command)
        return self._talk.hear(wait, command)

    def _reset(self) -> Dialogue[None]:
        """RSET, behind a transaction that was left open."""
        reply = yield from self._ask(request.RSET, Wait.MAIL, command="RSET")
        if reply.kind != 2:
            # A MAIL would be refused for its place and not for its sender.
            raise HostFailure(BAD_PROTOCOL, "refused RSET")

    def _say_sender(self) -> Dialogue[bool]:
        """MAIL; when it is refused, it is for every recipient."""
        reply = yield from self._ask(self._mail, Wait.MAIL, command="MAIL")
        self._answered = True
        self.is_open = reply.kind == 2
        if not self.is_open:
            self._refuse(range(len(self._recipients)), reply, command="MAIL")
        return self.is_open

    def _say_recipients(self, *, ignored: bool) -> Dialogue[None]:
        """RCPT for each; `ignored` when the replies to a group say nothing new."""
        for number, octets in enumerate(self._recipients):
            reply = yield from self._ask(octets, Wait.RECIPIENT, command="RCPT")
            if ignored:
                continue
            if reply.kind == 2:
                self._accepted.append(number)
            elif self._accepted and _is_one_too_many(reply):
                self._again.append(number)
                self._outcomes[number] = self._refusal(reply, "RCPT", kind=4)
            else:
                self._refuse([number], reply, command="RCPT")

    def _say_data(self, content: Content) -> Dialogue[None]:
        """DATA, and the message when it may come."""
        reply = yield from self._ask(request.DATA, Wait.DATA, command="DATA")
        if reply.code == 354:
            if self._accepted:
                yield from self._send(content)
            else:
                # RFC 2920 §3.1: 354 although no recipient was taken asks for a lone dot.
                yield from self._talk.ask(b".\r\n", Wait.FINAL_DOT, command="an empty message")
            self.is_open = False
        elif self._accepted:
            self._refuse(self._accepted, reply, command="DATA")

    def _send(self, content: Content) -> Dialogue[None]:
        """The message and the final dot (RFC 5321 §4.1.1.4)."""
        held, at_line_start = b"", True
        for piece in content.pieces():
            if held:
                yield from self._talk.transfer(held)
            _check_line_ends(piece)
            held, at_line_start = self._dot_stuff(piece, at_line_start)
        end = b".\r\n" if at_line_start else b"\r\n.\r\n"
        self._talk.say(held + end, "end of data")
        self._dot_sent = True
        reply = yield from self._talk.hear(Wait.FINAL_DOT, "end of data")
        if reply.kind == 2:
            self._take(reply)
        else:
            self._refuse(self._accepted, reply, command="end of data")

    # ------------------------------------------------------------------ outcomes

    def _take(self, reply: RemoteReply) -> None:
        outcome = Outcome(
            Kind.DELIVERED,
            reply.status or Status(2, 0, 0),
            reply.text,
            self._remote.host,
            self._remote.address,
            "end of data",
            self._remote.tls,
            notifies=self._notifies,
        )
        for number in self._accepted:
            self._outcomes[number] = outcome

    def _refuse(self, numbers: Iterable[int], reply: RemoteReply, *, command: str) -> None:
        """One refusal for all of them. Raises HostFailure for a reply that is none."""
        if reply.kind < 4:
            raise HostFailure.from_reply(reply, command)
        kind = 4 if self._spare_530 and reply.code == 530 else reply.kind
        outcome = self._refusal(reply, command, kind=kind)
        for number in numbers:
            self._outcomes[number] = outcome

    def _refusal(self, reply: RemoteReply, command: str, *, kind: int) -> Outcome:
        status = reply.status or Status(kind, 0, 0)
        return self._outcome(
            Status(kind, status.subject, status.detail), reply.text, command=command
        )

    def _outcome(
        self, status: Status, text: str, *, command: str, uncertain: bool = False
    ) -> Outcome:
        return Outcome(
            Kind.FAILED if status.kind == 5 else Kind.DEFERRED,
            status,
            text,
            self._remote.host,
            self._remote.address,
            command,
            self._remote.tls,
            uncertain=uncertain,
        )

    def _give_up(self, failure: DeliveryFailure) -> None:
        """Let a failure be the outcome of whoever has none yet."""
        text, command, uncertain = failure.text, "", False
        if isinstance(failure, HostFailure):
            command = failure.command
            text = text if command else f"{self._remote.host} {text}"
            left = failure.lost is None or failure.lost.sent
            uncertain = self._dot_sent and left and not command
        outcome = self._outcome(failure.status, text, command=command, uncertain=uncertain)
        for number in range(len(self._recipients)):
            self._outcomes.setdefault(number, outcome)


def _is_one_too_many(reply: RemoteReply) -> bool:
    """Whether a RCPT was refused for those before it (RFC 5321 §4.5.3.1.10: 452, once 552)."""
    status = reply.status
    detail = _TOO_MANY if status is None else (status.subject, status.detail)
    return reply.code in (452, 552) and detail == _TOO_MANY


def _check_line_ends(piece: bytes) -> None:
    """See that CR and LF only come as CRLF, whatever happened to the stored message.

    RFC 5321 §2.3.8: a bare CR or LF is what smuggles a second message past a careless server.
    """
    ends = piece.count(b"\r\n")
    if not piece.count(b"\n") == ends == piece.count(b"\r"):
        raise PermanentFailure(6, 0, "the message holds a CR or LF that is not part of a CRLF")
