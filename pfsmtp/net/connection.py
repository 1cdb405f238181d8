"""One connection driven through one dialogue: who reads, writes, waits, and for how long.

The dialogue says what it needs; this gets it from the stream, within the time budgets of
`config.Limits`. They are totals: a client that sends an octet now and then does not gain by it.

    command   from the reply before to the end of the command
    data      for each block of a message; on the whole `minimum_rate` must be kept
    session   for everything

`serve` returns when the connection is closed, whatever happened; it never raises. A bug is logged
with its traceback and answered 421.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from pfsmtp.net.stream import NEVER, ClearStream, StreamLost, StreamTimeout, TLSStream
from pfsmtp.smtp.envelope import Encryption
from pfsmtp.smtp.server import (
    FAULT,
    SHUTTING_DOWN,
    SPOKE_TOO_SOON,
    TOO_SLOW,
    Dialogue,
    Need,
)
from pfsmtp.smtp.session import Session

_LAST_WORD = 10.0
"""Seconds in which a client whose time is over may take what is left to be answered."""
_GRACE = 2.0
"""Seconds from the connection to a first transaction, for who comes as we are told to stop."""
_TURN = 0.01
"""Seconds that who says very much at once leaves to others."""


class Connection:
    """A client's connection, from its acceptance to its close."""

    def __init__(
        self,
        stream: ClearStream,
        session: Session,
        *,
        wake: int,
        tls: ssl.SSLContext | None,
        describe: Callable[[ssl.SSLObject], Encryption],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.dialogue = Dialogue(session)
        self._clear = stream
        self._stream: ClearStream | TLSStream = stream
        self._session = session
        self._limits = session.server.limits
        self._tls = tls
        self._describe = describe
        self._clock = session.server.clock
        self._sleep = sleep
        self._began = self._command_began = self._clock()
        self._ends = self._began + self._limits.session
        self._message_began: float | None = None
        self._octets_before = 0
        self.octets = 0
        """How many have come."""
        self._wake = wake

    def serve(self, *, implicit_tls: bool = False) -> None:
        """Talk until one side has enough."""
        outcome = "closed"
        try:
            if implicit_tls:
                self._secure()
            self._converse()
        except StreamTimeout:
            outcome = "timeout"
        except StreamLost as error:
            outcome = f"lost: {error}"
        except Exception as error:
            outcome = "bug"
            self._session.log.bug("connection-bug", error, client=self._session.peer.address)
            self.dialogue.refuse(FAULT)
        finally:
            self.dialogue.close()
            self._stream.close(self.dialogue.take_output(), linger=self.dialogue.cut_off)
            self._log_end(outcome)

    def drain(self) -> None:
        """End the dialogue when no transaction is under way; called from another thread.

        Whoever calls makes `wake` readable then, so that a wait for a command ends, too.
        """
        self.dialogue.draining = True

    def _converse(self) -> None:
        dialogue = self.dialogue
        if self._spoke_too_soon():
            dialogue.refuse(SPOKE_TOO_SOON)
            return
        dialogue.start()
        while True:
            if not self._receive():
                if dialogue.draining:
                    dialogue.refuse(SHUTTING_DOWN)
                return
            while (need := dialogue.advance()) is not Need.INPUT:
                if need is Need.CLOSE:
                    return
                if need is Need.SEND:
                    self._give_way()
                else:
                    self._stream.send(dialogue.take_output(), self._limits.command)
                    self._secure()

    def _give_way(self) -> None:
        """Send what has gathered in the midst of a long group, and let others have their turn."""
        dialogue = self.dialogue
        self._sleep(dialogue.pause() or _TURN)
        self._stream.send(dialogue.take_output(), self._limits.command)
        self._command_began = self._clock()

    def _receive(self) -> bool:
        """Send what has gathered and wait for more; False when there will be no more."""
        dialogue = self.dialogue
        output = dialogue.take_output()
        if output and (pause := dialogue.pause()):
            self._sleep(pause)
        wait = self._budget(output)
        # What is under way is not broken off.
        wake = self._wake if dialogue.is_between_transactions() else NEVER
        try:
            if wait <= 0.0:
                # There may be input: who never pauses has no more time than who does.
                self._stream.send(output, _LAST_WORD)
                raise StreamTimeout
            count = self._stream.exchange(output, dialogue.input, wait, wake)
            if count < 0 and self._grace > 0:
                count = self._stream.exchange(b"", dialogue.input, self._grace, NEVER)
        except StreamTimeout:
            dialogue.refuse(SHUTTING_DOWN if dialogue.draining else TOO_SLOW)
            raise
        if count <= 0:
            return False
        self.octets += count
        return True

    @property
    def _grace(self) -> float:
        """Seconds that who came as we were told to stop has left for a first transaction."""
        return 0.0 if self._session.messages else self._began + _GRACE - self._clock()

    def _budget(self, output: bytes) -> float:
        """Seconds in which the next input must come; none are left when it is not positive."""
        now = self._clock()
        limits = self._limits
        if self._session.incoming is None:
            self._message_began = None
            if output:
                self._command_began = now
            ends = self._command_began + limits.command
            return (ends if ends < self._ends else self._ends) - now
        if self._message_began is None:
            self._message_began = now
            self._octets_before = self.octets
        # When a message that grows no more falls below the minimum rate; a first pause is granted.
        octets = self.octets - self._octets_before
        slowest = max(limits.minimum_rate_after, limits.data, octets / limits.minimum_rate)
        return min(now + limits.data, self._message_began + slowest, self._ends) - now

    def _secure(self) -> None:
        """Negotiate TLS, or raise StreamTimeout or StreamLost."""
        assert self._tls is not None
        try:
            stream = self._clear.secure(
                self._tls, min(self._limits.command, self._ends - self._clock())
            )
        except (StreamTimeout, StreamLost) as error:
            self._session.log.event(
                "tls-failed", client=self._session.peer.address, reason=str(error) or "timeout"
            )
            raise
        self._stream = stream
        self.dialogue.secured(self._describe(stream.state))

    def _spoke_too_soon(self) -> bool:
        """Whether the client, other than RFC 5321 §3.1 has it, did not wait for the greeting."""
        peer = self._session.peer
        if not self._limits.greeting_delay or peer.loopback or peer.encryption is not None:
            return False
        if not self._clear.is_readable(self._limits.greeting_delay):
            return False
        if self._clear.exchange(b"", self.dialogue.input, 0.0, NEVER) == 0:
            return False  # it did not speak, it left
        self._session.log.event("refused", client=peer.address, reason="spoke before the greeting")
        return True

    def _log_end(self, outcome: str) -> None:
        session = self._session
        session.log.event(
            "connection",
            client=session.peer.address,
            port=session.peer.port,
            hello=session.hello,
            tls=session.peer.encryption.version if session.peer.encryption else None,
            messages=session.accepted,
            errors=session.errors,
            seconds=round(self._clock() - self._began, 3),
            outcome=outcome,
        )
