"""The driver of a dialogue: which wait gets how long, and what failures of the stream mean."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

import pytest

from pfsmtp.delivery.relay.connection import Budgets, Connection
from pfsmtp.delivery.relay.content import OctetsContent
from pfsmtp.net.client_stream import NotSent
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client import Client, TLSPolicy
from pfsmtp.smtp.client.conversation import HostFailure
from pfsmtp.smtp.client.transaction import Remote, TransactionResult
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.outcome import Kind
from pfsmtp.smtp.wire import dot_stuff
from pfsmtp.tls import client_context
from tests.delivery.relaying import MESSAGE, timeouts

Turn = bytes | Exception
GREETING: list[Turn] = [b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n"]
TAKEN: list[Turn] = [*GREETING, b"250 ok\r\n250 ok\r\n354 go\r\n"]
BOB = Recipient(Mailbox("bob", "example.org"))


class FakeStream:
    """Says one thing after the other, each a second later; notes how long it might have taken."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self.turns = list(turns)
        self.now = 0.0
        self.waits: list[float] = []
        self.words = b""

    def _take(self, deadline: float) -> bytes:
        self.waits.append(deadline - self.now)
        self.now += 1.0
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    def exchange(self, octets: bytes, deadline: float) -> bytes:
        return self._take(deadline)

    def send(self, octets: bytes, deadline: float) -> None:
        self._take(deadline)

    def start_tls(
        self, context: ssl.SSLContext, name: str | None, deadline: float
    ) -> ssl.SSLObject:
        self._take(deadline)
        raise AssertionError

    def last_words(self) -> bytes:
        return self.words

    def is_quiet(self) -> bool:
        return True

    def say_last(self, octets: bytes) -> None: ...

    def close(self) -> None: ...


def connect(stream: FakeStream, budgets: Budgets | None = None) -> Connection:
    if budgets is None:
        waits = {"banner": 11, "hello": 12, "mail": 13, "recipient": 14, "data": 15, "block": 16}
        budgets = Budgets(timeouts(**waits, final_dot=17))
    client = Client(Remote("mx.example.org", "192.0.2.1"), "us.example.org", dot_stuff=dot_stuff)
    return Connection(stream, client, budgets=budgets, clock=lambda: stream.now)


def open_(connection: Connection) -> None:
    context = client_context(verify=False)
    connection.open(TLSPolicy.PREFERRED, None, context=context, judge=lambda *_: "valid")


def send(connection: Connection, message: bytes = MESSAGE) -> TransactionResult:
    return connection.send(
        Envelope(None, (BOB,)),
        [BOB],
        content=OctetsContent(message),
        eight_bit=False,
        smtputf8=False,
        spare_530=False,
    )


def broken(error: OSError) -> NotSent:
    failure = NotSent()
    failure.__cause__ = error
    return failure


def test_each_wait_has_its_time() -> None:
    replies = [b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"", b"", b"250 ok\r\n"]
    stream = FakeStream([b"220 mx\r\n", b"250 mx\r\n", *replies])
    connection = connect(stream)
    open_(connection)
    result = send(connection, 150_000 * b"a")
    assert result.outcomes[0].kind is Kind.DELIVERED
    assert stream.waits == [11, 12, 13, 14, 15, 16, 16, 17]


def test_reply_that_drips_in_has_no_more_time() -> None:
    stream = FakeStream([b"22", b"0", b" mx\r", b"\n", b"250 mx\r\n"])
    open_(connect(stream))
    assert stream.waits == [11, 10, 9, 8, 12]


def test_opening_commands_and_message_have_totals_but_the_final_dot_has_none() -> None:
    stream = FakeStream([*TAKEN, b"", b"250 ok\r\n"])
    budgets = Budgets(timeouts(final_dot=600), opening=1.5, commands=2.5, rate=100_000)
    connection = connect(stream, budgets)
    open_(connection)
    send(connection, 100_000 * b"a")
    assert stream.waits == [1.5, 0.5, 3.5, 2.5, 600]


def test_silence_after_the_final_dot_is_uncertain() -> None:
    stream = FakeStream([*TAKEN, TimeoutError()])
    connection = connect(stream)
    open_(connection)
    (outcome,) = send(connection).outcomes
    assert outcome.uncertain
    assert outcome.text == "mx.example.org did not answer in time at end of data"


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (BrokenPipeError(32, "Broken pipe"), "broke the connection (broken pipe) at end of data"),
        (ConnectionAbortedError(), "did not read what it was sent at end of data"),
        (TimeoutError(), "did not answer in time at end of data"),
    ],
)
def test_final_dot_that_did_not_leave_is_not_uncertain(failure: OSError, text: str) -> None:
    stream = FakeStream([*TAKEN, broken(failure)])
    connection = connect(stream)
    open_(connection)
    (outcome,) = send(connection).outcomes
    assert not outcome.uncertain
    assert outcome.text == f"mx.example.org {text}"


def test_last_words_are_read_from_a_connection_that_broke() -> None:
    stream = FakeStream([*TAKEN, ConnectionResetError(104, "Connection reset by peer")])
    stream.words = b"554 5.7.1 spam\r\n"
    connection = connect(stream)
    open_(connection)
    (outcome,) = send(connection).outcomes
    assert (outcome.kind, outcome.text) == (Kind.FAILED, "554 5.7.1 spam")


def test_end_without_a_word_is_a_failure_of_the_host() -> None:
    with pytest.raises(HostFailure, match="closed the connection at connection"):
        open_(connect(FakeStream([b""])))


def test_bug_is_not_taken_for_a_failure() -> None:
    with pytest.raises(ZeroDivisionError):
        open_(connect(FakeStream([ZeroDivisionError()])))
