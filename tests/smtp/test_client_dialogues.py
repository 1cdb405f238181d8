"""The client's dialogues in script files: what the server says, what the client sends, what is made
of it.

    # a comment
    @tls required            how TLS is taken: never, preferred (the default), required, implicit
    @auth login:password     credentials for the server
    @body text               the message, with \\r \\n
    @envelope 8bit ret=HDRS  what the message needs, and its DSN parameters
    @rcpt notify=NEVER       the same for recipients
    @spare-530               nobody pays for a 530
    S 220 hello              a line of the server's, CRLF behind it
    s 220 hello\\n            the same without the CRLF
    X                        the server closes the connection
    T                        the server is silent for too long
    TLS, NO-TLS              the handshake comes about, or fails
    C EHLO us                a line of the client's; those between two answers leave together
    @send a@b c@d            the message is handed over for these recipients
    > delivered 2.0.0 250 *  the outcome for the next recipient
    ! 4.5.0 sent *           the host is of no use
    ~ usable                 what is true now: usable, unusable, untouched, again NUMBERS

Each is played three times: with all that the server says between two commands in one piece, line by
line, and octet by octet.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from pfsmtp.delivery.relay.content import OctetsContent
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client import Client, Credentials, TLSPolicy
from pfsmtp.smtp.client.conversation import (
    Dialogue,
    Exchange,
    HostFailure,
    LinkLost,
    StartTLS,
    Step,
    TLSFailed,
    Transfer,
)
from pfsmtp.smtp.client.transaction import Remote, TransactionResult
from pfsmtp.smtp.envelope import Envelope, Notify, Recipient
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.wire import dot_stuff

SCRIPTS = sorted((Path(__file__).parent / "client_dialogues").glob("*.txt"))
NOTIFY: tuple[Notify, ...] = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"

T = TypeVar("T")
Cut = Callable[[list[bytes]], list[bytes]]


def whole(lines: list[bytes]) -> list[bytes]:
    return [b"".join(lines)] if lines else []


def by_line(lines: list[bytes]) -> list[bytes]:
    return lines


def by_octet(lines: list[bytes]) -> list[bytes]:
    return [bytes([octet]) for octet in b"".join(lines)]


class Player:
    """Plays the server's side of a script, and sees that the client does as it says."""

    def __init__(self, text: str, cut: Cut) -> None:
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.options = dict(
            line[1:].partition(" ")[::2]
            for line in lines
            if line.startswith("@") and not line.startswith("@send")
        )
        self.lines = [line for line in lines if line.startswith("@send") or line[0] != "@"]
        self.cut = cut
        self.client = Client(
            Remote("mx.example.org", "192.0.2.1"), "us.example.org", dot_stuff=dot_stuff
        )
        self.sent = b""
        self.coming: list[bytes] = []
        self.outcomes: list[Outcome] = []
        self.result: TransactionResult | None = None
        self.failure = ""

    def play(self) -> None:
        login, _, password = self.options.get("auth", "").partition(":")
        credentials = Credentials(login, password) if login else None
        try:
            self.run(
                self.client.greet(TLSPolicy(self.options.get("tls", "preferred")), credentials)
            )
        except HostFailure as failure:
            said = f"{failure.command}: " if failure.command else ""
            self.failure = f"{failure.status} {said}{failure.text}".replace("\n", " / ")
        except TLSFailed as failure:
            self.failure = f"tls {failure}"
        while self.lines:
            self.check(self.lines.pop(0))
        assert not self.outcomes
        assert not self.failure

    def check(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        if kind == "@send":
            self.send(rest.split())
        elif kind == ">":
            assert fnmatch.fnmatchcase(describe(self.outcomes.pop(0)), rest)
        elif kind == "!":
            assert fnmatch.fnmatchcase(self.failure, rest)
            self.failure = ""
        elif kind == "~":
            self.check_state(rest)
        else:
            pytest.fail(f"the client did not go on to: {line}")

    def check_state(self, state: str) -> None:
        if state in ("usable", "unusable"):
            assert self.client.is_usable() == (state == "usable")
            return
        assert self.result is not None
        if state == "untouched":
            assert self.result.untouched
        else:
            assert " ".join(["again", *map(str, self.result.again)]) == state

    def send(self, addresses: list[str]) -> None:
        needs = self.options.get("envelope", "").split()
        values = dict(need.partition("=")[::2] for need in needs)
        body = self.options.get("body")
        octets = MESSAGE if body is None else body.encode().decode("unicode_escape").encode()
        recipients = [self.recipient(address) for address in addresses]
        envelope = Envelope(
            Mailbox("alice", "example.net"),
            tuple(recipients),
            returning="HDRS" if values.get("ret") else None,
            envelope_id=values.get("envid"),
        )
        self.result = self.run(
            self.client.transact(
                envelope,
                recipients,
                content=OctetsContent(octets),
                eight_bit="8bit" in needs,
                smtputf8="smtputf8" in needs,
                spare_530="spare-530" in self.options,
            )
        )
        self.outcomes = list(self.result.outcomes)

    def recipient(self, address: str) -> Recipient:
        wishes = dict(part.partition("=")[::2] for part in self.options.get("rcpt", "").split())
        local_part, _, domain = address.partition("@")
        return Recipient(
            Mailbox(local_part, domain),
            frozenset(word for word in NOTIFY if word in wishes.get("notify", "")),
            wishes.get("orcpt"),
        )

    def run(self, dialogue: Dialogue[T]) -> T:
        try:
            step = next(dialogue)
            while True:
                try:
                    received = self.take(step)
                except (LinkLost, TLSFailed) as failure:
                    step = dialogue.throw(failure)
                else:
                    step = dialogue.send(received)
        except StopIteration as end:
            result: T = end.value
            return result

    def take(self, step: Step) -> bytes:
        """Do what the client asks for, as the script has it."""
        match step:
            case Transfer():
                self.sent += step.octets
                return b""
            case StartTLS():
                self.hear_client()
                if self.lines.pop(0) == "NO-TLS":
                    raise TLSFailed("handshake failed")
                return b""
            case Exchange():
                self.sent += step.octets
                if not self.coming:
                    self.hear_client()
                    self.coming = self.cut(list(self.server_lines()))
                return self.coming.pop(0) if self.coming else self.end()

    def hear_client(self) -> None:
        """What the client has sent since the server last spoke is what the script says."""
        said = ""
        while self.lines and self.lines[0].split(" ")[0] == "C":
            said += self.lines.pop(0)[2:] + "\r\n"
        assert self.sent.decode() == said
        self.sent = b""

    def server_lines(self) -> Iterator[bytes]:
        while self.lines and self.lines[0][:2] in ("S ", "s "):
            line = self.lines.pop(0)
            escaped = line[2:].encode().decode("unicode_escape").encode()
            yield line[2:].encode() + b"\r\n" if line[0] == "S" else escaped

    def end(self) -> bytes:
        if self.lines and self.lines[0] == "X":
            self.lines.pop(0)
            raise LinkLost("closed the connection")
        if self.lines and self.lines[0] == "T":
            self.lines.pop(0)
            raise LinkLost("did not answer in time")
        pytest.fail(f"the client waits, before: {self.lines[:1]}")


def describe(outcome: Outcome) -> str:
    kind = outcome.kind.value
    if outcome.uncertain:
        assert outcome.kind is Kind.DEFERRED
        kind = "uncertain"
    elif outcome.notifies:
        kind = "notifying"
    said = f"{outcome.command}: " if outcome.command and outcome.kind is not Kind.DELIVERED else ""
    return f"{kind} {outcome.status} {said}{outcome.text}".replace("\n", " / ")


@pytest.mark.parametrize("cut", [whole, by_line, by_octet])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_dialogue(script: Path, cut: Cut) -> None:
    Player(script.read_text(), cut).play()
