"""Commands out, replies in: what every part of the client's dialogue is made of.

A dialogue is a generator. It yields a step, what is to happen on the connection next; whoever
drives it does that and sends back the octets that came in. When the connection fails, the driver
throws `LinkLost` or `TLSFailed` in. Commands that were said leave when the first reply to them is
waited for, so that a group of them (RFC 2920) takes one step.

A reply that cannot be understood, one that nobody asked for, a 421, and a lost connection all end
the conversation: `HostFailure`. Any other reply is given to the caller to judge.
"""

from __future__ import annotations

from collections.abc import Generator
from enum import StrEnum
from typing import TypeAlias, TypeVar

from msgspec import Struct

from pfsmtp.smtp.client.remote import BadReply, RemoteReply, reply_reader
from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.status import Status

T = TypeVar("T")

# RFC 3463 §3.5, §3.6: bad connection, and a delivery protocol that went wrong.
BAD_CONNECTION = Status(4, 4, 2)
BAD_PROTOCOL = Status(4, 5, 0)


class Wait(StrEnum):
    """What is waited for; how long is the driver's business (RFC 5321 §4.5.3.2)."""

    BANNER = "banner"
    HELLO = "hello"
    MAIL = "mail"
    RECIPIENT = "recipient"
    DATA = "data"
    FINAL_DOT = "final_dot"


class Exchange(Struct):
    """Send these octets, then wait until some come in."""

    octets: bytes
    wait: Wait
    continued: bool  # a part of the reply has come; the time to wait goes on


class Transfer(Struct):
    """Send these octets of a message; nothing comes back yet."""

    octets: bytes


class StartTLS(Struct):
    """Begin TLS, now."""


Step: TypeAlias = Exchange | Transfer | StartTLS
Dialogue: TypeAlias = Generator[Step, bytes, T]


class LinkLost(Exception):
    """The connection failed, or the other side was silent for too long.

    The text goes behind the name of the host: `closed the connection`. `sent` is false when the
    octets of the step surely did not all leave; `last_words` is what came in before the connection
    broke and was not read yet.
    """

    def __init__(self, text: str, *, sent: bool = True, last_words: bytes = b"") -> None:
        super().__init__(text)
        self.text = text
        self.sent = sent
        self.last_words = last_words


class TLSFailed(Exception):
    """TLS could not be had on this connection; the text says why."""


class HostFailure(DeliveryFailure):
    """This host, or this connection to it, is of no use: for now (status 4) or at all (5).

    The text is what the host replied to `command`; or, when that is empty, something to go behind
    its name: `closed the connection`. `lost` is set when the connection failed.
    """

    def __init__(
        self, status: Status, text: str, *, command: str = "", lost: LinkLost | None = None
    ) -> None:
        super().__init__(status, text)
        self.command = command
        self.lost = lost

    @classmethod
    def from_reply(cls, reply: RemoteReply, command: str) -> HostFailure:
        """Make one of a refusal; a reply that is none is not understood."""
        if reply.kind < 4:
            return cls(BAD_PROTOCOL, f"gave a reply to {command} that does not fit")
        status = reply.status or Status(reply.kind, 0, 0)
        return cls(status, reply.text, command=command)


class Conversation:
    """One connection as a sequence of commands and replies."""

    __slots__ = ("_replies", "_unsent")

    def __init__(self) -> None:
        self._replies = reply_reader()
        self._unsent: list[bytes] = []

    def is_in_step(self) -> bool:
        """Whether every reply has been asked for."""
        return self._replies.is_empty

    def say(self, octets: bytes, command: str) -> None:
        """Have this sent with the next wait. Raises HostFailure."""
        if not self._unsent and not self._replies.is_empty:
            raise self._unasked(command)
        self._unsent.append(octets)

    def ask(self, octets: bytes, wait: Wait, *, command: str) -> Dialogue[RemoteReply]:
        """Send a command and return the reply. Raises HostFailure."""
        self.say(octets, command)
        return (yield from self.hear(wait, command))

    def hear(self, wait: Wait, command: str) -> Dialogue[RemoteReply]:
        """Return the next reply. Raises HostFailure."""
        try:
            reply = self._replies.next()
            continued = False
            while reply is None:
                octets = b"".join(self._unsent)
                self._unsent.clear()
                self._replies.feed((yield Exchange(octets, wait, continued)))
                reply = self._replies.next()
                continued = True
        except BadReply as error:
            raise HostFailure(BAD_PROTOCOL, f"sent {error} at {command}") from error
        except LinkLost as lost:
            reply = self._last_reply(lost)
            if reply is None:
                raise _failure(lost, command) from lost
        # RFC 5321 §3.8: 421 may come at any time, and the connection closes behind it.
        if reply.code == 421:
            raise HostFailure.from_reply(reply, command)
        return reply

    def start_tls(self) -> Dialogue[None]:
        """Begin TLS. Raises TLSFailed."""
        if not self.is_in_step():
            # RFC 3207 §5: what came in clear behind the 220 may be anybody's, so it is never
            # taken for something that was said under TLS.
            raise TLSFailed("octets in clear before the handshake")
        yield StartTLS()

    def transfer(self, octets: bytes) -> Dialogue[None]:
        """Send a part of a message. Raises HostFailure."""
        try:
            yield Transfer(octets)
        except LinkLost as lost:
            reply = self._last_reply(lost)
            if reply is None:
                raise _failure(lost, "the message") from lost
            raise HostFailure.from_reply(reply, "the message") from lost

    def _unasked(self, command: str) -> HostFailure:
        """What to make of a reply that came before its command: a refusal needs none."""
        reply = self._next_refusal()
        if reply is None:
            return HostFailure(BAD_PROTOCOL, "sent a reply that nobody asked for")
        return HostFailure.from_reply(reply, command)

    def _last_reply(self, lost: LinkLost) -> RemoteReply | None:
        """The refusal that the other side sent before it hung up, if it did."""
        self._replies.feed(lost.last_words)
        return self._next_refusal()

    def _next_refusal(self) -> RemoteReply | None:
        try:
            reply = self._replies.next()
        except BadReply:
            return None
        return reply if reply is not None and reply.kind >= 4 else None


def _failure(lost: LinkLost, command: str) -> HostFailure:
    return HostFailure(BAD_CONNECTION, f"{lost.text} at {command}", lost=lost)
