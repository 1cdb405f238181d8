"""The server's dialogue against a model, in any order of commands, cut into any pieces.

Whatever a client says, the replies are those of the model, in its order, and stored is what the
model has stored; nothing else. Commands are held back at random, so that groups of them come
together (RFC 2920).
"""

from __future__ import annotations

import itertools
import re

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

from pfsmtp.smtp.envelope import Encryption
from pfsmtp.smtp.errors import DeliveryFailure, PermanentFailure, TransientFailure
from pfsmtp.smtp.server import Need
from tests.fuzz.server_model import LIMITS, RECIPIENTS, SENDERS, ServerModel
from tests.smtp.fakes import FakeStore, make_dialogue
from tests.smtp.reference import dot_stuff

TLS = Encryption("TLSv1.3", "TLS_AES_256_GCM_SHA384")
_REPLY = re.compile(rb"((?:[2-5][0-9]{2}-[^\r\n]*\r\n)*)([2-5][0-9]{2}) ([^\r\n]*)\r\n")

LINES = st.sampled_from(
    [b"", b".", b"..", b".x", b"text", b"Subject: x", b"QUIT", b"DATA", b"\xff8", b"x" * 100]
)
FLAWS = st.sampled_from(
    [b"\r", b"\n", b"\0", b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r"]
)
CUTS = st.lists(st.integers(0, 2500), max_size=8)
FAILURES = {
    "": None,
    "451": TransientFailure(3, 0, "broken"),
    "452": TransientFailure(3, 1, "full"),
    "554": PermanentFailure(7, 1, "no"),
}


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """What follows a 354, with its end; now and then with what must not end it, or spoils it."""
    lines = draw(st.lists(LINES, max_size=6))
    text = b"".join(line + b"\r\n" for line in lines)
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(FLAWS) + text[at:]
    stuffed = re.sub(rb"(\A|\r\n)\.(?=\r\n)", rb"\1..", dot_stuff(text))
    return stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n.\r\n")


class ServerMachine(RuleBasedStateMachine):
    """Clients of one server, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.store = FakeStore()
        self.model = ServerModel([])
        self.held = b""

    @initialize()
    def connect(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a connection."""
        self.dialogue = make_dialogue(self.store, limits=LIMITS)
        self.model = ServerModel(self.model.stored)
        self.set_failures("", "")
        self.closed = False
        self.dialogue.start()
        self.check(self.dialogue.take_output())

    @precondition(lambda self: self.model.closed)
    @rule()
    def connect_again(self) -> None:
        self.deliver([])
        self.begin()

    @precondition(lambda self: not self.model.closed)
    @rule(verb=st.sampled_from(["EHLO", "helo"]), argument=st.sampled_from(["client", "", "c\0"]))
    def hello(self, verb: str, argument: str) -> None:
        self.held += self.model.hello_command(verb, argument)

    @precondition(lambda self: not self.model.closed)
    @rule()
    def come_to_the_message(self) -> None:
        """What most clients do, so that messages are common."""
        self.held += self.model.hello_command("EHLO", "client")
        if not self.model.closed:
            self.held += self.model.mail("FROM:<a@example.net>")
        if not self.model.closed:
            self.held += self.model.rcpt("TO:<alice@example.org>")

    @precondition(lambda self: not self.model.closed)
    @rule(argument=st.sampled_from(sorted(SENDERS)))
    def mail(self, argument: str) -> None:
        self.held += self.model.mail(argument)

    @precondition(lambda self: not self.model.closed)
    @rule(argument=st.sampled_from(sorted(RECIPIENTS)))
    def rcpt(self, argument: str) -> None:
        self.held += self.model.rcpt(argument)

    @precondition(lambda self: not self.model.closed)
    @rule(body=bodies(), cuts=CUTS)
    def data(self, body: bytes, cuts: list[int]) -> None:
        self.held += self.model.data(body)
        if self.model.data_refused:
            # What follows at once would be taken for the message, so nothing does.
            self.deliver(cuts)

    @precondition(lambda self: not self.model.closed)
    @rule(
        octets=st.lists(LINES | st.sampled_from([b"\r\n", b"\r\n.\r\n", b"\r"]), max_size=4),
        last=st.sampled_from(["", " LAST", " last"]),
    )
    def bdat(self, octets: list[bytes], last: str) -> None:
        chunk = b"".join(octets)
        self.held += self.model.bdat(str(len(chunk)), last, chunk)

    @precondition(lambda self: not self.model.closed)
    @rule(argument=st.sampled_from(["-1", "1" * 19, "0x1", "", "5 FIRST"]))
    def bdat_without_a_size(self, argument: str) -> None:
        self.held += self.model.bdat(argument, "", b"")

    @precondition(lambda self: not self.model.closed)
    @rule(argument=st.sampled_from(["", "", "now"]), cuts=CUTS)
    def starttls(self, argument: str, cuts: list[int]) -> None:
        self.held += self.model.starttls(argument)
        # What follows at once, in clear, is taken for an attack, so nothing does.
        self.deliver(cuts)

    @precondition(lambda self: not self.model.closed)
    @rule(octets=st.sampled_from([b"RSET\r\n", b"\x16\x03\x01", b"x"]))
    def starttls_with_more_behind(self, octets: bytes) -> None:
        self.held += self.model.starttls_with_more_behind(octets)
        self.deliver([])

    @precondition(lambda self: not self.model.closed)
    @rule(
        which=st.sampled_from(
            ["rset", "noop", "too_long", "quit", "bare_line_feed", "other_protocol"]
        )
    )
    def simple(self, which: str) -> None:
        self.held += getattr(self.model, which)()

    @precondition(lambda self: not self.model.closed)
    @rule(command=st.sampled_from([("VRFY", "502"), ("EXPN", "502"), ("help", "214")]))
    def aside(self, command: tuple[str, str]) -> None:
        self.held += self.model.aside(*command)

    @precondition(lambda self: not self.model.closed)
    @rule(
        line=st.sampled_from(
            [b"", b"X", b"MAILFROM:<a@b>", b"\xff", b"\0", b".", b"AUTH PLAIN AA=="]
        )
    )
    def unknown(self, line: bytes) -> None:
        self.held += self.model.unknown(line)

    @precondition(lambda self: not self.model.closed)
    @rule(begin=st.sampled_from(sorted(FAILURES)), commit=st.sampled_from(sorted(FAILURES)))
    def trouble(self, begin: str, commit: str) -> None:
        self.deliver([])
        self.set_failures(begin, commit)

    @precondition(lambda self: not self.model.closed)
    @rule()
    def drain(self) -> None:
        self.deliver([])
        self.dialogue.draining = self.model.draining = True

    @rule(cuts=CUTS)
    def deliver(self, cuts: list[int]) -> None:
        """What was held back comes, in pieces."""
        sent, self.held = self.held, b""
        edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
        output = b""
        for start, end in itertools.pairwise(edges):
            if self.closed:
                break
            self.dialogue.input.feed(sent[start:end])
            output += self.advance()
        self.check(output)

    @rule()
    def deliver_octet_by_octet(self) -> None:
        self.deliver(list(range(len(self.held))))

    def teardown(self) -> None:
        self.deliver([])
        self.dialogue.close()
        assert self.store.open == 0, "something is left of a message"

    # -- the server

    def set_failures(self, begin: str, commit: str) -> None:
        self.model.begin_fails, self.model.commit_fails = begin, commit
        failures: tuple[DeliveryFailure | None, ...] = (FAILURES[begin], FAILURES[commit])
        self.store.begin_fails, self.store.commit_fails = failures

    def advance(self) -> bytes:
        """Have the server do all it can, and return what it says."""
        output = b""
        while True:
            need = self.dialogue.advance()
            output += self.dialogue.take_output()
            match need:
                case Need.SEND:
                    continue
                case Need.TLS:
                    self.dialogue.secured(TLS)
                case Need.CLOSE:
                    self.closed = True
                    self.dialogue.close()
                case Need.INPUT:
                    pass
            return output

    def check(self, output: bytes) -> None:
        """See that what was said is what the model expects."""
        codes = []
        at = 0
        while at < len(output):
            reply = _REPLY.match(output, at)
            assert reply is not None, output[at:]
            code = reply[2].decode()
            assert all(line.startswith(reply[2]) for line in reply[1].splitlines())
            if reply[3][1:2] == b"." and code[0] in "245":
                assert reply[3].startswith(code[0].encode()), "a status that does not fit its code"
            codes.append(code)
            at = reply.end()
        expected, self.model.expected = self.model.expected, []
        assert [code[: len(each)] for code, each in zip(codes, expected, strict=False)] == expected
        assert len(codes) == len(expected), codes
        assert self.closed == self.model.closed

    @invariant()
    def stored_is_what_the_model_stored(self) -> None:
        if self.held:
            return
        found = [
            ([str(each.mailbox) for each in message.envelope.recipients], message.octets)
            for message in self.store.messages
        ]
        assert found == self.model.stored


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        ServerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_server_answers_and_stores_as_the_model_does() -> None:
    run(500, 40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_server_answers_and_stores_as_the_model_does_for_long() -> None:
    run(20_000, 60)
