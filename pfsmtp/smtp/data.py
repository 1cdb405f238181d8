"""A message on its way in: the octets between 354 and the final dot, and BDAT chunks.

`IncomingMessage` decodes and checks them, and hands them to the intake that keeps them. Whatever is
wrong is answered at the message's true end, after all of it has been read: a server that stops
early reads mail as commands. From the first fault on nothing is kept.

What the decoder finds is compiled (ext/wire.pyx); RFC 5321 §4.1.1.4, §4.5.2; RFC 3030 for BDAT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.reply import Reply
from pfsmtp.smtp.wire import Decoder, Input

if TYPE_CHECKING:
    from pfsmtp.config import Limits
    from pfsmtp.smtp.ports import Intake, MessageStore, Receipt
    from pfsmtp.smtp.session import Session

LONGEST_LINE = 65536
"""Octets of a line that are taken as they are; RFC 5321 §4.5.3.1.6 asks for 998."""

_MOST_HEADER = 262_144
"""Octets of a header in which Received fields are counted."""

TOO_LARGE = Reply(552, "The message is larger than this server takes", (3, 4))
_BARE = Reply(554, "A line of the message ends with a bare CR or LF", (6, 0))
_NUL = Reply(554, "The message holds a NUL octet", (6, 0))
_LONG_LINE = Reply(554, f"A line of the message is longer than {LONGEST_LINE} octets", (6, 0))
_LOOP = Reply(554, "Too many Received fields; this looks like a mail loop", (4, 6))


def refusal(failure: DeliveryFailure) -> Reply:
    """The reply for a delivery that failed while the client is there (RFC 5321 §4.2.3)."""
    status = failure.status
    detail = (status.subject, status.detail)
    if status.kind == 4:
        # 452: no room on the disk, or in the mailbox
        return Reply(452 if detail in ((3, 1), (2, 2)) else 451, failure.text, detail)
    return Reply(552 if detail in ((3, 4), (2, 2)) else 554, failure.text, detail)


class IncomingMessage:
    """One message: what is right and wrong with it so far, and the intake that keeps it."""

    __slots__ = ("_header", "_limits", "_newline", "cause", "decoder", "fault", "intake")

    def __init__(self, intake: Intake, store: MessageStore, limits: Limits) -> None:
        self.intake: Intake = intake
        self.decoder = Decoder(keep_cr=store.line_end == b"\r\n")
        self._newline = store.line_end
        self._limits = limits
        self.fault: Reply | None = None
        self.cause: BaseException | None = None
        """What the client is not told of a fault: the system's error, for the log."""
        self._header: bytes | None = b""  # None once it has been checked

    def take(self, source: Input) -> bool:
        """Take from `source` what is there of the message; True once its end was among it."""
        octets = source.data(self.decoder)
        if self.fault is None and octets:
            self._keep(octets)
        return self.decoder.ended

    def finish(self) -> Receipt | Reply:
        """The message is complete: make it safe, or say what is wrong with it."""
        decoder = self.decoder
        if decoder.bare_cr or decoder.bare_lf:
            self._fail(_BARE)
        elif decoder.nul:
            self._fail(_NUL)
        elif decoder.size > self._limits.message_size:
            self._fail(TOO_LARGE)
        elif decoder.longest_line > LONGEST_LINE:
            self._fail(_LONG_LINE)
        if self.fault is not None:
            return self.fault
        try:
            return self.intake.commit()
        except DeliveryFailure as failure:
            self.cause = failure.__cause__
            return refusal(failure)

    def finish_chunks(self) -> Receipt | Reply:
        """As `finish`, behind the last BDAT, whose octets need not end a line."""
        self.decoder.finish()
        if self.fault is None and not self.decoder.at_line_start:
            self._keep(self._newline)
        return self.finish()

    def abandon(self) -> None:
        """The transaction ends without this message: RSET, or the client is gone."""
        if self.fault is None:
            self.intake.abort()

    def _keep(self, octets: bytes) -> None:
        if self._header is not None:
            self._look_at_header(octets)
        decoder = self.decoder
        if decoder.size > self._limits.message_size:
            self._fail(TOO_LARGE)
        if self.fault is None:
            try:
                self.intake.write(octets)
            except DeliveryFailure as failure:
                self.cause = failure.__cause__
                self._fail(refusal(failure))

    def _look_at_header(self, octets: bytes) -> None:
        """Count Received fields, to end loops (RFC 5321 §6.3)."""
        header = self._header + octets if self._header else octets
        end = header.find(self._newline + self._newline)
        if end < 0 and len(header) < _MOST_HEADER and not self.decoder.ended:
            self._header = header
            return
        self._header = None
        fields = header[:end].lower() if end >= 0 else header.lower()
        hops = fields.count(b"\nreceived:") + fields.startswith(b"received:")
        if hops > self._limits.hops:
            self._fail(_LOOP)

    def _fail(self, reply: Reply) -> None:
        if self.fault is None:
            self.fault = reply
            self.intake.abort()


class Incoming(Protocol):
    """Octets that are not commands, being taken in."""

    def take(self, source: Input) -> bool:
        """Take what belongs to it from `source`; True once nothing more does."""
        ...

    def answer(self, session: Session) -> Reply:
        """All of it is here: say what came of it."""
        ...


class Data:
    """What follows a 354."""

    __slots__ = ("_message", "take")

    def __init__(self, message: IncomingMessage) -> None:
        self._message = message
        self.take = message.take

    def answer(self, session: Session) -> Reply:
        return session.conclude(self._message.finish())


class Chunk:
    """The octets of a BDAT that was accepted."""

    __slots__ = ("_last", "_message", "_size", "take")

    def __init__(self, message: IncomingMessage, size: int, *, last: bool) -> None:
        self._message = message
        self._size = size
        self._last = last
        self.take = message.take
        message.decoder.expect(size)

    def answer(self, session: Session) -> Reply:
        message = self._message
        if self._last:
            return session.conclude(message.finish_chunks())
        if message.fault is not None:
            # RFC 3030 §2: the transaction has failed; chunks behind this one are refused
            return session.conclude(message.fault)
        return Reply(250, f"{self._size} octets received", (0, 0))


class RefusedChunk:
    """The octets of a BDAT that was refused: read all the same, and dropped (RFC 3030 §2)."""

    __slots__ = ("_decoder", "_reply")

    def __init__(self, size: int, reply: Reply) -> None:
        self._decoder = Decoder(keep_cr=False)
        self._decoder.expect(size)
        self._reply = reply

    def take(self, source: Input) -> bool:
        source.data(self._decoder)
        return self._decoder.ended

    def answer(self, session: Session) -> Reply:
        return self._reply
