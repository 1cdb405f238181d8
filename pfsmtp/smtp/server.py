"""The server's side of the dialogue, driven by octets: no sockets, no clock, no threads.

`Dialogue` is given what the client sent in `input`, and gathers what is to be sent. Who drives it
(`pfsmtp.net.connection`, or a test) calls `advance` after each input, sends what `take_output`
gives, waits `pause` seconds first, and does what the returned `Need` says:

    dialogue.start()
    while (need := dialogue.advance()) is not Need.CLOSE: …

All replies that one input brings forth leave together (RFC 2920 §3.2), a hundred of them at most.
However the input is cut into pieces, the replies and what is stored are the same.

A bug in a handler goes through `advance` to the caller, who logs it and closes the connection.
"""

from __future__ import annotations

from enum import Enum, auto

from pfsmtp.smtp import command, handlers
from pfsmtp.smtp.data import refusal
from pfsmtp.smtp.envelope import Encryption
from pfsmtp.smtp.errors import DeliveryFailure, PeerError
from pfsmtp.smtp.reply import After, Reply
from pfsmtp.smtp.session import Session
from pfsmtp.smtp.wire import BareLineFeed, Input, LineTooLong

SLOWED = 1.0
"""Seconds that an erring client waits for each group of replies."""

_AT_ONCE = 100
"""Commands that are carried out before their replies are sent."""

SHUTTING_DOWN = Reply(421, "This server is restarting; come again", (3, 2), After.CLOSE)
TOO_SLOW = Reply(421, "You took too long", (4, 2), After.CLOSE)
FAULT = Reply(421, "An internal error; come again later", (3, 0), After.CLOSE)
SPOKE_TOO_SOON = Reply(554, "You spoke before the greeting", (5, 1), After.CLOSE)
_TOO_MANY_ERRORS = Reply(421, "Too many errors", (7, 0), After.CLOSE)
_LINE_TOO_LONG = Reply(500, f"A line has at most {command.LONGEST_LINE} octets", (5, 2))
_BARE_LINE_FEED = Reply(500, "A line ends with CRLF", (5, 2), After.CLOSE)
_NOT_SMTP = Reply(554, "This is an SMTP server", (5, 1), After.CLOSE)
_UNASKED = Reply(554, "The message came before it was asked for", (5, 1), After.CLOSE)
_INJECTED = Reply(554, "Nothing may follow STARTTLS before TLS is up", (5, 1), After.CLOSE)

# By a name of its own: `Enum` takes its time to find a member.
_GO_ON = After.GO_ON

_OTHER_PROTOCOLS = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE"))
_TLS_HANDSHAKE = 0x16  # RFC 8446 §5.1: ContentType handshake


class Need(Enum):
    """What the dialogue waits for."""

    INPUT = auto()
    SEND = auto()
    """Much has been answered: send it, let others have their turn, then advance again."""
    TLS = auto()
    """Send, negotiate TLS, call `secured`, and wait for input."""
    CLOSE = auto()


class Dialogue:
    """One session, from the greeting to the close."""

    __slots__ = ("_data_refused", "_output", "cut_off", "draining", "input", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.input = Input()
        self.draining = False
        """What comes behind the present transaction, or the first, is answered 421."""
        self.cut_off = False
        """We end it, and the client may not have expected that."""
        self._data_refused = False
        """The last command was DATA, and was refused."""
        self._output = b""

    def start(self) -> None:
        """Greet the client (RFC 5321 §3.1)."""
        self._output = self.session.server.greeting.octets

    def is_between_transactions(self) -> bool:
        """Whether nothing would be broken off if the dialogue ended here."""
        return self.session.transaction is None and self.session.incoming is None

    def pause(self) -> float:
        """Seconds to wait before sending: clients that keep erring are slowed."""
        session = self.session
        return SLOWED if session.errors >= session.server.limits.errors_slow else 0.0

    def take_output(self) -> bytes:
        octets, self._output = self._output, b""
        return octets

    def advance(self) -> Need:
        """Do all that the input is enough for, but not more than a hundred things at once."""
        session = self.session
        for _ in range(_AT_ONCE):
            incoming = session.incoming
            if incoming is None:
                if not self.input:
                    return Need.INPUT
                need = self._command()
            elif incoming.take(self.input):
                session.incoming = None
                need = self._say(incoming.answer(session))
            else:
                return Need.INPUT
            if need is not None:
                return need
        return Need.SEND

    def secured(self, encryption: Encryption) -> None:
        """TLS is up (RFC 3207 §4.2)."""
        self.session.secure(encryption)

    def refuse(self, reply: Reply) -> None:
        """Say a last word that no command asked for; the caller closes."""
        self.cut_off = True
        self._output += reply.octets

    def close(self) -> None:
        """The connection is gone: nothing is left of a transaction that was open."""
        self.session.abandon()

    @property
    def _may_end(self) -> bool:
        # Who has just connected and is turned away would have been refused, in effect.
        return self.is_between_transactions() and self.session.messages > 0

    def _command(self) -> Need | None:
        """Carry out the next command; None when there may be another."""
        try:
            line = self.input.command(command.LONGEST_LINE)
        except LineTooLong:
            return self._refuse(b"", b"", _LINE_TOO_LONG)
        except BareLineFeed:
            return self._refuse(b"", b"", _BARE_LINE_FEED)
        if line is None:
            if self.input.peek() == _TLS_HANDSHAKE:
                return self._refuse(b"", b"", _NOT_SMTP)
            return Need.INPUT
        verb, argument = line
        if self.draining and self._may_end and verb != b"QUIT":
            return self._say(SHUTTING_DOWN)
        try:
            reply = command.run(self.session, verb, argument)
        except PeerError as error:
            reply = error.reply
        except DeliveryFailure as failure:
            reply = refusal(failure)
            self.session.report(failure)
        if reply is not None and reply.code >= 400:
            return self._refuse(verb, argument, reply)
        self._data_refused = False
        return None if reply is None else self._say(reply)

    def _refuse(self, verb: bytes, argument: bytes, reply: Reply) -> Need | None:
        session = self.session
        if verb in _OTHER_PROTOCOLS:
            reply = _NOT_SMTP
        elif self._is_unasked(verb, reply):
            reply = _UNASKED
        self._data_refused = verb == b"DATA"
        session.log.event(
            "refused",
            client=session.peer.address,
            command=verb[:16],
            argument=argument[:256],
            reason=f"{reply.code} {reply.lines[0]}",
        )
        return self._say(reply)

    def _is_unasked(self, verb: bytes, reply: Reply) -> bool:
        """Whether this is, or is followed by, a message that was sent without waiting for 354.

        RFC 2920 §3.1: DATA is the last command of a group. What is behind one that was refused
        is text of somebody else's choice, and would be read as commands. It is recognised when it
        is there already, or when its first line is no command.
        """
        if verb == b"DATA":
            return len(self.input) > 0
        return self._data_refused and reply.code == 500

    def _say(self, reply: Reply) -> Need | None:
        """Put a reply behind the others, and tell what follows from it."""
        if reply.code >= 400:
            session = self.session
            session.errors += 1
            if session.errors >= session.server.limits.errors_close and reply is not handlers.IDLE:
                reply = _TOO_MANY_ERRORS
        if reply.after is not _GO_ON:
            return self._say_last(reply)
        self._output += reply.octets
        return None

    def _say_last(self, reply: Reply) -> Need:
        """Say what ends the dialogue, or its part in clear."""
        if reply.after is After.START_TLS:
            if not self.input:
                self._output += reply.octets
                return Need.TLS
            # RFC 3207 §6: commands sent along with STARTTLS may be an attacker's
            reply = _INJECTED
        self._output += reply.octets
        self.cut_off = reply is not handlers.CLOSING
        return Need.CLOSE
