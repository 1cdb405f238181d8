"""The queue as the dialogue's message store: what a submission gets, and what stays as it is."""

from __future__ import annotations

import pytest

from pfsmtp.mailqueue.store import QueueStore
from pfsmtp.message.trace import Dates
from pfsmtp.smtp.envelope import Origin
from tests.mailqueue.conftest import MakeWorld, World, envelope, everything, step

ORIGIN = Origin("127.0.0.1", "client.example", "ESMTP", "mail.example.org")
WHOLE = b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@x>\r\nSubject: x\r\n\r\nText\r\n"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


def submitted(world: World, message: bytes, *, to: str = "a@example.org", piece: int = 0) -> bytes:
    """What is in the queue of a message that was submitted in pieces of so many octets."""
    store = QueueStore(
        world.queue, dates=Dates(), clock=world.clock, random=lambda size: b"r" * size
    )
    intake = store.begin(envelope(*to.split()), ORIGIN)
    piece = piece or len(message) or 1
    for start in range(0, len(message), piece):
        intake.write(message[start : start + piece])
    receipt = intake.commit()
    assert receipt.id == intake.id
    shard = world.shard()
    step(shard)
    lease = world.claim(shard)
    assert lease.entry.id == intake.id
    return b"".join(lease.body.pieces())


@pytest.mark.parametrize("piece", [0, 1, 10])
def test_rfc5321_4_4_received_goes_before_the_message_which_stays_as_it_is(
    world: World, piece: int
) -> None:
    found = submitted(world, WHOLE, piece=piece)
    assert found.endswith(WHOLE)
    trace = found.removesuffix(WHOLE).decode()
    assert trace.startswith("Received: from client.example ([127.0.0.1])\r\n\tby mail.example.org")
    assert trace.count("\r\n") == trace.count("\n") == trace.count("\r\n\t") + 1
    assert "for <a@example.org>" in trace


def test_rfc5321_7_2_received_names_nobody_when_there_are_several(world: World) -> None:
    assert b" for " not in submitted(world, WHOLE, to="a@example.org b@example.org")


@pytest.mark.parametrize("piece", [0, 1, 7])
def test_rfc6409_8_missing_date_and_message_id_are_added(world: World, piece: int) -> None:
    found = submitted(world, b"Subject: x\r\n\r\nText\r\n", piece=piece)
    head, _, text = found.partition(b"\r\n\r\n")
    assert text == b"Text\r\n"
    assert head.count(b"\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000") == 1
    assert head.count(b"\r\nMessage-ID: <") == 1
    assert head.endswith(b"\r\nSubject: x")


def test_message_without_a_header_gets_one(world: World) -> None:
    found = submitted(world, b"just text\r\n")
    assert found.endswith(b"\r\n\r\njust text\r\n")


def test_empty_message_is_taken(world: World) -> None:
    assert submitted(world, b"").startswith(b"Received: ")


def test_large_message_is_kept_octet_for_octet(world: World) -> None:
    message = WHOLE + b"line of text\r\n" * 50_000
    assert submitted(world, message, piece=8192).endswith(message)


@pytest.mark.parametrize("message", [b"Subject: x\r\n", WHOLE, WHOLE * 5000])
def test_aborted_submission_leaves_nothing(world: World, message: bytes) -> None:
    store = QueueStore(world.queue, dates=Dates(), clock=world.clock)
    intake = store.begin(envelope("a@example.org"), ORIGIN)
    intake.write(message)
    intake.abort()
    assert everything(world.queue) == []


def test_lines_end_with_crlf_and_room_is_that_of_the_queue(world: World) -> None:
    store = QueueStore(world.queue, dates=Dates())
    assert store.line_end == b"\r\n"
    assert store.room_for(1)
    assert not store.room_for(1 << 60)
