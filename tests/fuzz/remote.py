"""The other side of a client's dialogue: it takes apart what the client sends, and holds it to the
rules; what it answers is chosen by who drives it.

It is strict where a client has to be: one command at a time unless PIPELINING was offered, nothing
behind DATA or STARTTLS before they are answered, no message before a 354, no bare CR or LF.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_COMMAND = re.compile(
    rb"(EHLO|HELO|STARTTLS|AUTH|MAIL|RCPT|DATA|RSET)(?: ([^\r\n]*))?\r\n", re.DOTALL
)
_ANSWER = re.compile(rb"()([A-Za-z0-9+/=]*)\r\n")
_USUAL = {
    "banner": b"220 mx.example.org",
    "EHLO": b"250 mx.example.org",
    "HELO": b"250 mx.example.org",
    "STARTTLS": b"220 go",
    "AUTH": b"235 welcome",
    "MAIL": b"250 sender ok",
    "RCPT": b"250 recipient ok",
    "DATA": b"354 go",
    "RSET": b"250 forgotten",
    ".": b"250 stored",
}
ALONE = ("EHLO", "HELO", "STARTTLS", "AUTH", "DATA")
"""Commands that are the last of a group (RFC 2920 §3.1)."""


@dataclass(slots=True)
class Taken:
    """A transaction as this side sees it."""

    begun: bool = False  # by a 2yz to MAIL
    recipients: list[bytes] = field(default_factory=list)  # whose RCPT was answered with 2yz
    message: bytes | None = None
    confirmed: bool = False  # by a 2yz to its end


@dataclass(slots=True)
class RemoteModel:
    """A server, from the connection on; octets in by `hear`, commands to answer in `waiting`."""

    extensions: tuple[bytes, ...]
    waiting: list[tuple[str, bytes]] = field(default_factory=lambda: [("banner", b"")])
    heard: bytes = b""
    """What is no whole command yet."""
    pipelining: bool = False
    encrypted: bool = False
    honest: bool = True
    """All that was said was an answer to a command; else both sides may well be out of step."""
    challenged: bool = False
    """334 was said: what comes is an answer (RFC 4954 §4)."""
    over: bool = False
    """It has said 421, behind which nothing is heard."""
    in_message: bool = False
    """354 was said: what comes is the message."""
    transaction: Taken = field(default_factory=Taken)
    ended: bool = False
    """The end of a message has come since the transaction began."""
    finals: list[int] = field(default_factory=list)
    """The codes over 399 that were said since the transaction began."""
    invited: set[int] = field(default_factory=set)
    """334 and 354, when they were said to whatever. Who is out of step may follow them."""

    def begin(self) -> None:
        """A transaction is to come."""
        self.transaction = Taken()
        self.ended = False
        self.finals.clear()

    def hear(self, octets: bytes) -> None:
        """Take what the client sends."""
        self.heard += octets
        while self.heard:
            if not (self._hear_message() if self.in_message else self._hear_command()):
                return

    def _hear_message(self) -> bool:
        lines = re.match(rb"(?:\A|.*?\r\n)\.\r\n", self.heard, re.DOTALL)
        if lines is None:
            return False
        sent = lines[0]
        assert sent.count(b"\r") == sent.count(b"\n") == sent.count(b"\r\n"), "a bare CR or LF"
        if self.honest and not self.transaction.recipients:
            assert sent == b".\r\n", "a message for nobody"
        self.heard = self.heard[len(sent) :]
        self.in_message = False
        self.ended = True
        self.transaction.message = re.sub(rb"(\A|\r\n)\.", rb"\1", sent[:-3])
        self.waiting.append((".", b""))
        return True

    def _hear_command(self) -> bool:
        command = (_ANSWER if self.challenged else _COMMAND).match(self.heard)
        if command is None and not self.honest:
            command = _COMMAND.match(self.heard)
            if command is None and 354 in self.invited:
                return self._hear_message()
            if command is None and 334 in self.invited:
                command = _ANSWER.match(self.heard)
        assert command is not None, f"not a whole command: {self.heard[:80]!r}"
        if self.waiting and self.honest:
            assert self.pipelining, f"{self.heard[:80]!r} before {self.waiting[0]} was answered"
            before = self.waiting[-1][0]
            assert before not in (*ALONE, "banner", "."), f"{self.heard[:80]!r} behind {before}"
        self.heard = self.heard[command.end() :]
        verb = command[1].decode() or "AUTH"
        if verb == "AUTH":
            assert self.encrypted, "credentials in clear"
        self.waiting.append((verb, command[2] or b""))
        return True

    def usual(self) -> bytes:
        """What a decent server says to the command that waits."""
        verb, _ = self.waiting[0]
        if verb == "EHLO":
            lines = [b"mx.example.org", *self.extensions]
            return b"".join(b"250-%s\r\n" % line for line in lines[:-1]) + b"250 %s" % lines[-1]
        if verb == "RCPT" and not self.transaction.begun:
            return b"503 MAIL first"
        if verb == "DATA" and not self.transaction.recipients:
            return b"554 no recipients"
        return _USUAL[verb]

    def speak_unasked(self, code: int) -> None:
        """This is said, and is no answer."""
        self.honest = False
        self._invite(code)

    def _invite(self, code: int) -> None:
        if code in (334, 354):
            self.invited.add(code)

    def answer(self, code: int) -> None:
        """The command that waits is answered, with this code."""
        verb, argument = self.waiting.pop(0)
        self._invite(code)
        done = code // 100 == 2
        self.over = self.over or code == 421
        if code >= 400:
            self.finals.append(code)
        match verb:
            case "EHLO" | "HELO":
                self.pipelining = verb == "EHLO" and done and b"PIPELINING" in self.extensions
            case "AUTH":
                self.challenged = code == 334
            case "MAIL":
                self.transaction = Taken(begun=done)
            case "RCPT" if done and self.transaction.begun:
                self.transaction.recipients.append(argument)
            case "DATA":
                self.in_message = code == 354
            case ".":
                self.transaction.confirmed = done

    def secured(self) -> None:
        """TLS is up; what was offered in clear counts no more."""
        self.encrypted, self.pipelining = True, False
