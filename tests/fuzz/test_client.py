"""The client's dialogue with a server that says anything, in any pieces, or nothing more.

Whatever it says, the client keeps to the protocol, its dialogue ends, each recipient has exactly
one outcome, and what is called delivered was taken, and refused only what was refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

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
from pfsmtp.smtp.client.transaction import Content, Remote, TransactionResult
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import TransientFailure
from pfsmtp.smtp.outcome import Kind
from pfsmtp.smtp.wire import dot_stuff
from tests.fuzz.remote import RemoteModel

SENDER = Mailbox("alice", "example.net")
MOST_STEPS = 40
"""Steps of one transaction on a dead connection, or that answers nothing anew."""

OFFERED = [
    b"PIPELINING", b"STARTTLS", b"SIZE 1000", b"8BITMIME", b"DSN", b"AUTH PLAIN", b"AUTH LOGIN",
    b"AUTH=PLAIN", b"SMTPUTF8", b"CHUNKING", b"LIMITS RCPTMAX=2", b"", b"\xff",
]  # fmt: skip
EXTENSIONS = st.lists(st.sampled_from(OFFERED), max_size=6, unique=True).map(tuple)
CODES = st.sampled_from(
    [200, 220, 235, 250, 251, 299, 334, 354, 399, 421, 421, 450, 452, 500, 502, 530, 550, 552, 599]
)
TEXTS = st.sampled_from(
    [b"", b" ok", b" 5.1.1 unknown", b" 4.5.3 too many", b" 5.5.3 too many", b" 2.0.0 \x1b[31m"]
)
NONSENSE = st.sampled_from(
    [
        b"\r\n",
        b"250 ok\n",
        b"250 ok\r250 ok\r\n",
        b"250-a\r\n550 b\r\n",
        b"600 ok\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x16\x03\x01",
        b"250 " + b"x" * 5000 + b"\r\n",
        b"250-more\r\n" * 300,
    ]
)
LAST_WORDS = st.sampled_from(
    [b"", b"421 4.3.2 bye\r\n", b"550 5.7.1 no\r\n", b"450 later\r\n", b"250 ok\r\n", b"55", b"?"]
)
LINES = [b"text\r\n", b".\r\n", b"..x\r\n.\r\n", b"", b"\xff\r\n", b"x" * 2000 + b"\r\n"]
PIECES = st.lists(st.sampled_from(LINES), max_size=5)
ENDS = st.sampled_from([b"", b"", b"no line end", b".", b"bare\n", b"\r", None])


@dataclass
class Pieces:
    """A message; None in place of a piece cannot be read."""

    octets: list[bytes | None]

    @property
    def size(self) -> int:
        return sum(len(piece or b"") for piece in self.octets)

    def pieces(self) -> Iterator[bytes]:
        for piece in self.octets:
            if piece is None:
                raise TransientFailure(3, 0, "damaged")
            yield piece


class ClientMachine(RuleBasedStateMachine):
    """One connection, as the client drives it and the rules answer it."""

    def __init__(self) -> None:
        super().__init__()
        self.dialogue: Dialogue[None] | Dialogue[TransactionResult] | None = None
        self.step: Step | None = None
        self.coming = b""
        self.dead = False
        self.steps = 0

    @initialize(tls=st.sampled_from(TLSPolicy), login=st.booleans(), extensions=EXTENSIONS)
    def connect(self, tls: TLSPolicy, login: bool, extensions: tuple[bytes, ...]) -> None:
        self.open(tls, extensions, login=login)

    @precondition(lambda self: self.is_over)
    @rule(tls=st.sampled_from(TLSPolicy), login=st.booleans(), extensions=EXTENSIONS)
    def connect_again(self, tls: TLSPolicy, login: bool, extensions: tuple[bytes, ...]) -> None:
        self.open(tls, extensions, login=login)

    @precondition(lambda self: self.is_over)
    @rule(extensions=EXTENSIONS)
    def connect_and_be_greeted(self, extensions: tuple[bytes, ...]) -> None:
        """As with most servers, so that there are transactions."""
        self.open(TLSPolicy.PREFERRED, extensions, login=False)
        self.go_through()

    def open(self, tls: TLSPolicy, extensions: tuple[bytes, ...], *, login: bool) -> None:
        """Begin a connection."""
        self.dead, self.coming = False, b""
        self.tls = tls
        self.remote = RemoteModel(extensions)
        self.greeted = False
        self.client = Client(
            Remote("mx.example.org", "192.0.2.1"), "us.example.org", dot_stuff=dot_stuff
        )
        credentials = Credentials("me", "secret") if login else None
        self.recipients = 0
        self.begin(self.client.greet(tls, credentials))

    @precondition(lambda self: self.dialogue is None and not self.is_over)
    @rule(count=st.integers(1, 4), pieces=PIECES, end=ENDS)
    def transact(self, count: int, pieces: list[bytes], end: bytes | None) -> None:
        self.recipients = count
        self.content = Pieces([*pieces, end])
        self.remote.begin()
        recipients = [Recipient(Mailbox(f"user{n}", "example.org")) for n in range(count)]
        content: Content = self.content
        self.begin(
            self.client.transact(Envelope(SENDER, tuple(recipients)), recipients, content=content)
        )

    # -- what the other side does

    @precondition(lambda self: isinstance(self.step, Exchange) and self.remote.waiting)
    @rule(times=st.integers(1, 6))
    def answer_as_usual(self, times: int) -> None:
        for _ in range(times):
            if self.remote.waiting:
                reply = self.remote.usual()
                self.say(reply + b"\r\n", int(reply[:3]))

    @precondition(lambda self: isinstance(self.step, Exchange) and self.remote.waiting)
    @rule(code=CODES, text=TEXTS, lines=st.integers(0, 2))
    def answer(self, code: int, text: bytes, lines: int) -> None:
        said = b"".join([b"%d-more\r\n" % code] * lines) + b"%d%s\r\n" % (code, text)
        self.say(said, code)

    @precondition(lambda self: isinstance(self.step, Exchange))
    @rule(octets=NONSENSE)
    def talk_nonsense(self, octets: bytes) -> None:
        self.remote.honest = False
        self.coming += octets

    @precondition(lambda self: isinstance(self.step, Exchange))
    @rule(code=CODES)
    def talk_unasked(self, code: int) -> None:
        self.remote.speak_unasked(code)
        self.coming += b"%d unasked\r\n" % code

    @precondition(lambda self: isinstance(self.step, Exchange) and self.coming)
    @rule(sizes=st.lists(st.integers(1, 30), max_size=20))
    def deliver(self, sizes: list[int]) -> None:
        """What was said reaches the client, in pieces, as far as it goes on listening."""
        for size in [*sizes, len(self.coming)]:
            if not isinstance(self.step, Exchange) or not self.coming:
                return
            piece, self.coming = self.coming[:size], self.coming[size:]
            self.go_on(piece)

    @precondition(lambda self: self.dialogue is not None)
    @rule(before=st.integers(0, 9), code=CODES, text=TEXTS)
    def go_through_but_for_one_reply(self, before: int, code: int, text: bytes) -> None:
        self.go_through(before, b"%d%s" % (code, text))

    def go_through(self, before: int = -1, odd: bytes = b"") -> None:
        """Go on to the end of the dialogue as most servers do, but for the reply of that number."""
        while self.dialogue is not None:
            if isinstance(self.step, StartTLS):
                self.remote.secured()
                self.go_on(b"")
            elif isinstance(self.step, Transfer):
                self.go_on(b"")
            else:
                while self.remote.waiting:
                    reply = odd if before == 0 else self.remote.usual()
                    self.say(reply + b"\r\n", int(reply[:3]))
                    before -= 1
                if not self.coming:
                    self.hang_up_now(b"", sent=True)
                    return
                octets, self.coming = self.coming, b""
                self.go_on(octets)

    @precondition(lambda self: isinstance(self.step, Transfer))
    @rule()
    def take_a_part(self) -> None:
        self.go_on(b"")

    @precondition(lambda self: isinstance(self.step, StartTLS))
    @rule()
    def shake_hands(self) -> None:
        self.remote.secured()
        self.go_on(b"")

    @precondition(lambda self: isinstance(self.step, StartTLS))
    @rule()
    def fail_to_shake_hands(self) -> None:
        self.fail(TLSFailed("no"))

    @precondition(lambda self: isinstance(self.step, Exchange | Transfer))
    @rule(words=LAST_WORDS, sent=st.booleans())
    def hang_up(self, words: bytes, sent: bool) -> None:
        self.hang_up_now(words, sent=sent)

    def hang_up_now(self, words: bytes, *, sent: bool) -> None:
        self.remote.honest = self.remote.honest and not words and not self.coming
        if words[:1] in (b"4", b"5") and words.endswith(b"\n"):
            self.remote.finals.append(int(words[:3]))
        self.dead = True
        self.fail(LinkLost("hung up", sent=sent, last_words=self.coming + words))

    # -- the client

    @property
    def is_over(self) -> bool:
        """Nothing is under way, and nothing more can be."""
        usable = self.greeted and self.client.is_usable() and not self.dead
        return self.dialogue is None and not usable

    def say(self, octets: bytes, code: int) -> None:
        self.remote.answer(code)
        self.coming += octets

    def begin(self, dialogue: Dialogue[None] | Dialogue[TransactionResult]) -> None:
        self.dialogue = dialogue
        self.steps = 0
        self.advance(lambda: next(dialogue))

    def go_on(self, octets: bytes) -> None:
        dialogue = self.dialogue
        assert dialogue is not None
        self.advance(lambda: dialogue.send(octets))

    def fail(self, error: LinkLost | TLSFailed) -> None:
        dialogue = self.dialogue
        assert dialogue is not None
        self.advance(lambda: dialogue.throw(error))

    def advance(self, action: object) -> None:
        """Let the client do something, and do with its next step what can be done at once."""
        assert callable(action)
        try:
            self.step = action()
        except StopIteration as end:
            self.finish(end.value)
        except (HostFailure, TLSFailed):
            assert not self.recipients, "a transaction makes outcomes of its failures"
            self.dialogue = self.step = None
            self.dead = True
        else:
            self.take_step()

    def take_step(self) -> None:
        step = self.step
        if self.dead:
            self.steps += 1
            assert self.steps < MOST_STEPS, "it goes on with a connection that is lost"
            self.fail(LinkLost("is gone", sent=False))
        elif isinstance(step, Exchange | Transfer):
            assert not (step.octets and self.heard_last_words), "it goes on behind a 421"
            self.remote.hear(step.octets)
            if isinstance(step, Exchange) and not self.remote.in_message and self.remote.honest:
                waits = self.remote.waiting or self.coming or step.continued
                assert waits, "it waits for a reply that it has not asked for"
            self.check_secrecy()

    @property
    def heard_last_words(self) -> bool:
        return self.remote.over and self.remote.honest and not self.coming

    def check_secrecy(self) -> None:
        if self.tls in (TLSPolicy.REQUIRED, TLSPolicy.IMPLICIT) and not self.remote.encrypted:
            assert all(verb not in ("MAIL", "RCPT") for verb, _ in self.remote.waiting)

    def finish(self, result: TransactionResult | None) -> None:
        self.dialogue = self.step = None
        self.greeted = True
        if result is None:
            return
        outcomes, taken = result.outcomes, self.remote.transaction
        assert len(outcomes) == self.recipients
        assert set(result.again) <= set(range(self.recipients))
        for number, outcome in enumerate(outcomes):
            if outcome.uncertain:
                assert outcome.kind is Kind.DEFERRED
                assert self.remote.ended
            if not self.remote.honest:
                continue
            recipient = b"TO:<user%d@example.org>" % number
            if outcome.kind is Kind.DELIVERED:
                assert taken.confirmed
                assert any(each.startswith(recipient) for each in taken.recipients)
                assert taken.message == self.content_as_sent()
                continue
            accepted = any(each.startswith(recipient) for each in taken.recipients)
            assert not (taken.confirmed and accepted), "taken, and it is not told so"
            if outcome.kind is Kind.FAILED and outcome.status.subject != 6:
                assert any(code >= 500 for code in self.remote.finals), outcome
        if result.failure is not None or self.heard_last_words:
            assert not self.client.is_usable()

    def content_as_sent(self) -> bytes:
        octets = b"".join(piece or b"" for piece in self.content.octets)
        return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"

    @invariant()
    def nothing_is_said_when_it_is_over(self) -> None:
        if self.dialogue is None:
            assert self.step is None

    def teardown(self) -> None:
        """Whatever it waits for, it ends when the connection does."""
        if isinstance(self.step, StartTLS):
            self.fail(TLSFailed("over"))
        elif self.step is not None:
            self.hang_up_now(b"", sent=True)
        assert self.dialogue is None


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        ClientMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_client_keeps_to_the_protocol_whatever_the_server_says() -> None:
    run(500, 40)


def test_rules_know_a_message_that_was_asked_for_when_nobody_had_said_data() -> None:
    state = ClientMachine()
    state.connect_and_be_greeted(extensions=())
    state.transact(count=1, pieces=[], end=b"text")
    for code in (250, 250, 354):
        state.talk_unasked(code=code)
        state.deliver(sizes=[])
    assert state.remote.ended
    state.teardown()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_client_keeps_to_the_protocol_whatever_the_server_says_for_long() -> None:
    run(20_000, 60)
