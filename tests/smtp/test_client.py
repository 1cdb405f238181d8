"""What script files cannot say of the client: octets too early, last words, large messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pfsmtp.delivery.relay.content import OctetsContent
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client import Client, TLSPolicy
from pfsmtp.smtp.client.conversation import (
    Dialogue,
    Exchange,
    HostFailure,
    LinkLost,
    TLSFailed,
    Transfer,
)
from pfsmtp.smtp.client.transaction import Content, Remote, TransactionResult
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import TransientFailure
from pfsmtp.smtp.outcome import Kind
from pfsmtp.smtp.wire import dot_stuff

BOB = Recipient(Mailbox("bob", "example.org"))
ENVELOPE = Envelope(Mailbox("alice", "example.net"), (BOB,))
GROUP_TAKEN = b"250 ok\r\n250 ok\r\n354 go\r\n"


def greeted(*, extensions: bytes = b"250 PIPELINING\r\n") -> Client:
    client = new_client()
    dialogue = client.greet(TLSPolicy.NEVER)
    next(dialogue)
    dialogue.send(b"220 mx\r\n")
    with pytest.raises(StopIteration):
        dialogue.send(b"250-mx\r\n" + extensions)
    return client


def new_client() -> Client:
    return Client(Remote("mx.example.org", "192.0.2.1"), "us.example.org", dot_stuff=dot_stuff)


def transact(client: Client, content: Content) -> Dialogue[TransactionResult]:
    return client.transact(ENVELOPE, [BOB], content=content)


def result_of(dialogue: Dialogue[TransactionResult], last: bytes | Exception) -> TransactionResult:
    with pytest.raises(StopIteration) as caught:
        dialogue.throw(last) if isinstance(last, Exception) else dialogue.send(last)
    result: TransactionResult = caught.value.value
    return result


def test_reply_before_its_command_ends_the_conversation() -> None:
    dialogue = new_client().greet(TLSPolicy.NEVER)
    next(dialogue)
    with pytest.raises(HostFailure, match="nobody asked for"):
        dialogue.send(b"220 mx\r\n250 mx\r\n")


def test_reply_behind_the_last_one_makes_the_connection_useless() -> None:
    client = greeted()
    dialogue = transact(client, OctetsContent(b"Hello\r\n"))
    next(dialogue)
    dialogue.send(GROUP_TAKEN)
    result = result_of(dialogue, b"250 stored\r\n250 stored\r\n")
    assert result.outcomes[0].kind is Kind.DELIVERED
    assert client.failure is None
    assert not client.is_usable()


def test_more_replies_than_commands_deliver_nothing() -> None:
    client = greeted()
    dialogue = transact(client, OctetsContent(b"Hello\r\n"))
    next(dialogue)
    result = result_of(dialogue, GROUP_TAKEN + b"250 stored\r\n")
    assert result.outcomes[0].kind is Kind.DEFERRED
    assert not client.is_usable()


def test_rfc3207_5_octets_in_clear_behind_starttls_are_never_used() -> None:
    dialogue = new_client().greet(TLSPolicy.PREFERRED)
    next(dialogue)
    dialogue.send(b"220 mx\r\n")
    dialogue.send(b"250-mx\r\n250 STARTTLS\r\n")
    with pytest.raises(TLSFailed):
        dialogue.send(b"220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n")


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        (b"552 5.3.4 too big\r\n", Kind.FAILED, "5.3.4"),
        (b"452 4.3.1 full\r\n", Kind.DEFERRED, "4.3.1"),
        (b"421 4.3.2 bye\r\n", Kind.DEFERRED, "4.3.2"),
        (b"250 stored\r\n", Kind.DEFERRED, "4.4.2"),
        (b"garbage\r\n", Kind.DEFERRED, "4.4.2"),
        (b"", Kind.DEFERRED, "4.4.2"),
    ],
)
def test_last_words_of_a_host_that_hangs_up_in_the_message(
    words: bytes, kind: Kind, status: str
) -> None:
    client = greeted()
    dialogue = transact(client, OctetsContent(200_000 * b"a"))
    next(dialogue)
    assert isinstance(dialogue.send(GROUP_TAKEN), Transfer)
    result = result_of(dialogue, LinkLost("hung up", sent=False, last_words=words))
    outcome = result.outcomes[0]
    assert (outcome.kind, str(outcome.status), outcome.uncertain) == (kind, status, False)
    assert not client.is_usable()


def test_last_words_instead_of_a_reply() -> None:
    client = greeted()
    dialogue = transact(client, OctetsContent(b"Hello\r\n"))
    next(dialogue)
    lost = LinkLost("hung up", sent=False, last_words=b"421 4.4.2 idle too long\r\n")
    result = result_of(dialogue, lost)
    assert result.untouched
    assert result.outcomes[0].text == "421 4.4.2 idle too long"


@pytest.mark.parametrize(("sent", "uncertain"), [(True, True), (False, False)])
def test_dot_that_surely_did_not_leave_is_not_uncertain(sent: bool, uncertain: bool) -> None:
    client = greeted()
    dialogue = transact(client, OctetsContent(b"Hello\r\n"))
    next(dialogue)
    dialogue.send(GROUP_TAKEN)
    result = result_of(dialogue, LinkLost("hung up", sent=sent))
    assert result.outcomes[0].uncertain is uncertain
    assert not result.untouched


class Broken:
    """A message whose octets cannot be had after the first piece."""

    size = 100

    def pieces(self) -> Iterator[bytes]:
        yield b"Hello\r\n"
        raise TransientFailure(3, 0, "damaged")


def test_message_that_cannot_be_read_is_not_sent_in_part() -> None:
    client = greeted()
    dialogue = transact(client, Broken())
    next(dialogue)
    result = result_of(dialogue, GROUP_TAKEN)
    assert (result.outcomes[0].kind, result.outcomes[0].text) == (Kind.DEFERRED, "damaged")
    assert not client.is_usable()


def test_large_message_is_sent_in_pieces_and_the_dot_with_the_last() -> None:
    octets = b"".join(b".%d\r\n" % number for number in range(30_000)) + b"no end of line"
    client = greeted()
    dialogue = transact(client, OctetsContent(octets))
    next(dialogue)
    step, sent, steps = dialogue.send(GROUP_TAKEN), b"", 0
    while isinstance(step, Transfer):
        sent += step.octets
        step, steps = dialogue.send(b""), steps + 1
    assert isinstance(step, Exchange)
    sent += step.octets
    assert sent == octets.replace(b".", b"..") + b"\r\n.\r\n"
    assert steps == len(octets) // 65_536
    assert result_of(dialogue, b"250 ok\r\n").outcomes[0].kind is Kind.DELIVERED


def test_message_without_octets_is_ended_by_its_dot_alone() -> None:
    dialogue = transact(greeted(), OctetsContent(b""))
    next(dialogue)
    step = dialogue.send(GROUP_TAKEN)
    assert isinstance(step, Exchange)
    assert step.octets == b".\r\n"


@pytest.mark.parametrize(
    ("early", "kind", "text"),
    [
        (b"550 5.7.1 spam\r\n", Kind.FAILED, "550 5.7.1 spam"),
        (b"421 4.3.2 bye\r\n", Kind.DEFERRED, "421 4.3.2 bye"),
        (b"250 ok\r\n", Kind.DEFERRED, "mx.example.org sent a reply that nobody asked for"),
    ],
)
def test_reply_to_the_message_before_it_was_sent_leaves_nothing_uncertain(
    early: bytes, kind: Kind, text: str
) -> None:
    client = greeted()
    dialogue = transact(client, OctetsContent(b"Hello\r\n"))
    next(dialogue)
    outcome = result_of(dialogue, GROUP_TAKEN + early).outcomes[0]
    assert (outcome.kind, outcome.text, outcome.uncertain) == (kind, text, False)
    assert not client.is_usable()


def test_host_that_closes_behind_a_reply_is_not_told_more() -> None:
    client = greeted()
    dialogue = transact(client, OctetsContent(b"Hello\r\n"))
    next(dialogue)
    dialogue.send(GROUP_TAKEN)
    assert result_of(dialogue, b"250 ok\r\n421 4.3.2 bye\r\n").outcomes[0].kind is Kind.DELIVERED
    dialogue = transact(client, OctetsContent(b"Hello\r\n"))
    with pytest.raises(StopIteration) as caught:
        next(dialogue)
    assert caught.value.value.untouched
