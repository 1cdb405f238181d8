"""The contract of a queue, which every back end is held to."""

from __future__ import annotations

import threading
import time

import pytest
from msgspec import structs

from pfsmtp.mailqueue.backend import Lease, Queue
from pfsmtp.mailqueue.entry import Condition, Selection, Wish
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status
from tests.mailqueue.conftest import (
    DEFERRED,
    DELIVERED,
    FAILED,
    MESSAGE,
    SENDER,
    START,
    MakeWorld,
    World,
    due_now,
    envelope,
    everything,
    put,
    step,
)

BOUNCE = envelope("sender@example.net", sender=None)


def body_of(lease: Lease) -> bytes:
    return b"".join(lease.body.pieces())


def bounce(lease: Lease, *about: int) -> None:
    intake = lease.report(BOUNCE, about)
    intake.write(b"Subject: it failed\r\n\r\n")
    intake.commit()


def domains(queue: Queue, **selection: object) -> list[str]:
    views = queue.views(Selection(**selection))  # type: ignore[arg-type]
    return sorted(view.entry.domain for view in views)


# Putting


def test_message_that_was_put_is_handed_out_with_all_that_was_said_of_it(world: World) -> None:
    recipients = (
        Recipient(Mailbox("one", "Example.ORG"), frozenset({"FAILURE", "DELAY"}), "rfc822;o@x"),
        Recipient(Mailbox("zwölf kämpfer", "example.org"), frozenset({"NEVER"})),
    )
    whole = Envelope(
        SENDER, recipients, "8BITMIME", smtputf8=True, returning="HDRS", envelope_id="QQ314"
    )
    shard = world.shard()
    intake = world.queue.begin(whole)
    intake.write(MESSAGE)
    receipt = intake.commit()
    step(shard)
    entry = world.claim(shard).entry
    assert receipt.id == intake.id == entry.id
    assert entry.domain == "example.org"
    assert entry.envelope == whole
    assert [each.recipient for each in entry.addressees] == list(recipients)
    assert all(each.pending and each.outcome is None for each in entry.addressees)
    assert (entry.queued_at, entry.size) == (START, len(MESSAGE))
    assert (entry.attempts, entry.tried_at, entry.delay_reported) == (0, None, False)


def test_null_path_is_kept(world: World) -> None:
    shard = world.shard()
    intake = world.queue.begin(BOUNCE)
    intake.write(MESSAGE)
    intake.commit()
    step(shard)
    assert world.claim(shard).entry.envelope.reverse_path is None


def test_recipients_are_split_by_domain_in_any_case(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@one.org", "b@two.org", "c@ONE.org", "d@Two.Org", "e@three.org")
    units = due_now(shard, START)
    assert sorted(unit.domain for unit in units) == ["one.org", "three.org", "two.org"]
    leases = [shard.claim(unit) for unit in units]
    found = {
        lease.entry.domain: [str(each.mailbox) for each in lease.entry.envelope.recipients]
        for lease in leases
        if lease is not None
    }
    assert found == {
        "one.org": ["a@one.org", "c@ONE.org"],
        "two.org": ["b@two.org", "d@Two.Org"],
        "three.org": ["e@three.org"],
    }


def test_recipient_without_a_domain_is_a_unit_too(world: World) -> None:
    shard = world.shard()
    intake = world.queue.begin(Envelope(SENDER, (Recipient(Mailbox("postmaster", "")),)))
    intake.commit()
    assert [unit.domain for unit in due_now(shard, START)] == [""]


@pytest.mark.parametrize(
    "size",
    [
        *(0, 1, 3000, 4096, 16_000, 16_384, 65_535, 65_536, 65_537),
        *(114_687, 114_688, 114_689),  # from here on in a file of its own
        *(131_072, 1_048_576, 3_000_001),
    ],
)
def test_body_comes_back_octet_for_octet_whatever_its_size(world: World, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    shard = world.shard()
    put(world.queue, "a@example.org", message=body[:size])
    step(shard)
    lease = world.claim(shard)
    assert lease.body.size == lease.entry.size == size
    assert body_of(lease) == body_of(lease) == body[:size]


@pytest.mark.parametrize("piece", [1, 7, 8192, 200_000])
def test_body_comes_back_however_it_was_cut(world: World, piece: int) -> None:
    body = b"".join(b"line %d\r\n" % number for number in range(500 if piece < 100 else 40_000))
    shard = world.shard()
    intake = world.queue.begin(envelope("a@example.org"))
    for start in range(0, len(body), piece):
        intake.write(body[start : start + piece])
    intake.commit()
    step(shard)
    assert body_of(world.claim(shard)) == body


@pytest.mark.parametrize("size", [100_000, 400_000])
def test_no_line_end_is_cut_in_two_on_the_way_out(world: World, size: int) -> None:
    shard = world.shard()
    for shift in range(3):
        put(world.queue, "a@example.org", message=b"x" * shift + b"\r\n" * (size // 2))
    for unit in due_now(shard, START):
        lease = shard.claim(unit)
        assert lease is not None
        assert not any(piece.endswith(b"\r") for piece in lease.body.pieces())


@pytest.mark.parametrize(
    ("pieces", "eight_bit", "long_lines"),
    [
        ([b"plain\r\n"], False, False),
        ([b"caf\xc3\xa9\r\n"], True, False),
        ([b"plain\r\n", b"\xff"], True, False),
        ([b"x" * 998 + b"\r\n"], False, False),
        ([b"x" * 999 + b"\r\n"], False, True),
        ([b"x" * 500, b"x" * 498 + b"\r\n" + b"y" * 998], False, False),
        ([b"x" * 500, b"x" * 499, b"\r\n"], False, True),
        ([b"short\r\n" + b"x" * 999], False, True),
        ([b"short\r\n" * 300 + b"x" * 600, b"x" * 398, b"\r\nshort\r\n"], False, False),
        ([b"short\r\n" * 300 + b"x" * 600, b"x" * 399, b"\r\nshort\r\n"], False, True),
    ],
)
def test_eight_bit_and_long_lines_are_noted(
    world: World, pieces: list[bytes], eight_bit: bool, long_lines: bool
) -> None:
    shard = world.shard()
    intake = world.queue.begin(envelope("a@example.org"))
    for piece in pieces:
        intake.write(piece)
    intake.commit()
    step(shard)
    entry = world.claim(shard).entry
    assert (entry.eight_bit, entry.long_lines) == (eight_bit, long_lines)


@pytest.mark.parametrize("size", [100, 500_000])
def test_aborted_intake_leaves_nothing(world: World, size: int) -> None:
    shard = world.shard()
    intake = world.queue.begin(envelope("a@example.org"))
    intake.write(bytes(size))
    intake.abort()
    assert due_now(shard, START) == []
    assert everything(world.queue) == []


def test_ids_differ(world: World) -> None:
    ids = {put(world.queue, "a@example.org") for _ in range(100)}
    assert len(ids) == 100


def test_thousand_recipients_of_one_domain_are_one_unit(world: World) -> None:
    shard = world.shard()
    put(world.queue, *(f"user{number}@example.org" for number in range(1000)))
    step(shard)
    lease = world.claim(shard)
    assert len(lease.entry.addressees) == 1000
    lease.record(dict.fromkeys(range(999), DELIVERED))
    lease.record({999: structs.replace(FAILED, text="x" * 5000)})
    assert lease.ended


def test_recipients_of_a_thousand_domains_are_a_thousand_units(world: World) -> None:
    shard = world.shard()
    put(world.queue, *(f"user@domain{number}.example" for number in range(1000)))
    units = due_now(shard, START)
    assert len({unit.domain for unit in units}) == 1000
    for unit in units:
        with shard.claim(unit) or pytest.fail("cannot be claimed") as lease:
            lease.record({0: DELIVERED})
    assert everything(world.queue) == []


# Handing out


def test_unit_is_handed_out_once(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    assert shard.due(START) is not None
    assert shard.due(START) is None
    step(shard)
    assert shard.due(START + 1e6) is None
    assert shard.waiting() == 1


def test_units_are_handed_out_in_the_order_they_are_due(world: World) -> None:
    shard = world.shard()
    for number in range(5):
        put(world.queue, f"a@domain{number}.example")
        world.clock.now += 1
    units = due_now(shard, world.clock())
    assert [unit.domain for unit in units] == [f"domain{number}.example" for number in range(5)]


def test_unit_that_was_put_off_comes_back_at_its_time(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    (unit,) = due_now(shard, START)
    shard.put_off(unit, START + 60)
    assert due_now(shard, START + 59) == []
    (again,) = due_now(shard, START + 60)
    assert (again.domain, again.due) == ("example.org", START + 60)
    world.clock.now = START + 60
    assert shard.claim(again) is not None


def test_putting_off_is_forgotten_by_a_restart(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    (unit,) = due_now(shard, START)
    shard.put_off(unit, START + 1e6)
    world.restart()
    assert len(due_now(world.shard(), START)) == 1


def test_every_domain_falls_to_one_deliverer(make_world: MakeWorld) -> None:
    world = make_world(deliverers=3)
    shards = [world.shard(index) for index in range(3)]
    for number in range(60):
        put(world.queue, f"a@domain{number}.example", f"b@domain{number + 30}.example")
    found = [{unit.domain for unit in due_now(shard, START)} for shard in shards]
    assert sorted(domain for each in found for domain in each) == sorted(
        f"domain{number}.example" for number in range(90)
    )
    assert all(len(each) > 10 for each in found)


def test_message_that_was_put_before_the_deliverer_started_is_handed_out(world: World) -> None:
    put(world.queue, "a@one.org", "b@two.org")
    shard = world.shard()
    assert sorted(unit.domain for unit in due_now(shard, START)) == ["one.org", "two.org"]


def test_message_that_is_put_is_heard_of(world: World) -> None:
    shard = world.shard()
    thread = threading.Timer(0.05, put, [world.queue, "a@example.org"])
    thread.start()
    began = time.monotonic()
    while shard.due(START) is None:
        shard.hear(10)
    assert time.monotonic() - began < 5
    thread.join()


def test_somebody_is_called_when_a_unit_is_due(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    (unit,) = due_now(shard, START)
    shard.put_off(unit, START + 0.05)
    step(shard)
    assert not shard.is_due(START)
    began = time.monotonic()
    shard.keep_time(10)  # the clock of the world stands still: it is not due when this returns
    assert time.monotonic() - began < 5
    world.clock.now += 1
    shard.keep_time(0)
    shard.hear(10)
    assert shard.is_due(world.clock())
    assert time.monotonic() - began < 5


def test_unit_that_is_put_off_for_now_is_called_out_at_once(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    (unit,) = due_now(shard, START)
    threading.Timer(0.05, shard.put_off, [unit, START]).start()
    began = time.monotonic()
    shard.keep_time(10)
    shard.hear(10)
    assert shard.due(START) is not None
    assert time.monotonic() - began < 5


def test_time_is_kept_until_somebody_wakes_who_does(world: World) -> None:
    shard = world.shard()
    threading.Timer(0.05, shard.wake).start()
    began = time.monotonic()
    shard.keep_time(10)
    assert time.monotonic() - began < 5


def test_one_of_those_who_wait_hears_a_call(world: World) -> None:
    shard = world.shard()
    woken = threading.Semaphore(0)

    def wait() -> None:
        shard.hear()
        woken.release()

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        shard.call()
        assert woken.acquire(timeout=5)
    for thread in threads:
        thread.join()


def test_waiting_ends_when_time_is_up(world: World) -> None:
    shard = world.shard()
    shard.hear(0.01)
    shard.keep_time(0.01)
    assert shard.due(START) is None


def test_closed_shard_hands_out_nothing_and_its_leases_may_end(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@one.org")
    put(world.queue, "a@two.org")
    step(shard)
    lease = world.claim(shard)
    shard.close()
    shard.close()
    assert shard.due(START) is None
    lease.record({0: DELIVERED})
    assert lease.ended
    assert domains(world.queue) == ["two.org"]


# Recording


def test_delivered_unit_is_finished_and_gone_for_ever(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    lease.record({0: DELIVERED})
    assert lease.ended
    assert shard.waiting() == 0
    assert everything(world.queue) == []
    world.restart()
    assert due_now(world.shard(), START + 1e6) == []


def test_outcomes_are_kept_with_all_that_was_said(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org", "c@example.org")
    step(shard)
    said = Outcome(
        Kind.FAILED,
        Status(5, 7, 999),
        "we don't like »you«",
        host="mx.example.org",
        address="2001:db8::1",
        command="end of data",
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384, certificate not valid",
        uncertain=True,
        notifies=True,
    )
    with world.claim(shard) as lease:
        lease.record({0: DELIVERED, 1: said, 2: DEFERRED}, owed={1})
        assert [each.outcome for each in lease.entry.addressees] == [DELIVERED, said, DEFERRED]
        lease.release(START + 300)
    world.restart()
    (view,) = everything(world.queue)
    addressees = view.entry.addressees
    assert [each.outcome for each in addressees] == [DELIVERED, said, DEFERRED]
    assert [each.pending for each in addressees] == [False, False, True]
    assert [each.owed for each in addressees] == [False, True, False]


def test_long_texts_are_shortened_and_nothing_else(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record(
            {
                0: structs.replace(DEFERRED, text="ä" * 10_000),
                1: structs.replace(FAILED, text="b" * 10_000, host="h" * 1000),
            },
            owed={1},
        )
        lease.release(START + 300, reason="c" * 1000)
    world.restart()
    (view,) = everything(world.queue)
    first, second = (each.outcome for each in view.entry.addressees)
    assert first is not None
    assert second is not None
    assert (first.kind, first.status) == (DEFERRED.kind, DEFERRED.status)
    assert (second.kind, second.status) == (FAILED.kind, FAILED.status)
    assert first.text.startswith("ä" * 50)
    assert second.text.startswith("b" * 50)


def test_released_unit_is_due_at_its_time_and_not_before(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: DEFERRED})
        lease.release(START + 300, reason="")
    assert lease.ended
    assert due_now(shard, START + 299) == []
    world.restart()
    shard = world.shard()
    assert due_now(shard, START + 299) == []
    world.clock.now = START + 300
    step(shard)
    entry = world.claim(shard).entry
    assert (entry.attempts, entry.tried_at) == (1, START)


def test_an_attempt_counts_once_however_much_is_recorded(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org", "c@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: DELIVERED})
        lease.record({1: FAILED}, owed={1})
        lease.record({2: DEFERRED})
        lease.release(START + 1)
    world.clock.now += 1
    with world.claim(shard) as lease:
        assert lease.entry.attempts == 1
        lease.record({2: DEFERRED})
        assert lease.entry.attempts == 2
        lease.release(START + 2)


def test_release_without_an_attempt_counts_as_none_and_says_why(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    world.claim(shard).release(START + 60, reason="mx.example.org has failed; tried again later")
    (view,) = everything(world.queue)
    assert view.entry.attempts == 0
    assert view.next_attempt == START + 60
    assert view.reason == "mx.example.org has failed; tried again later"


def test_recipients_are_recorded_one_after_another(world: World) -> None:
    shard = world.shard()
    put(world.queue, *(f"{number}@example.org" for number in range(30)))
    step(shard)
    lease = world.claim(shard)
    for number in range(30):
        assert not lease.ended
        lease.record({number: DELIVERED})
    assert lease.ended


def test_delivered_recipient_stays_delivered(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: DELIVERED})
        lease.record({0: DEFERRED, 1: DEFERRED})
        assert [each.pending for each in lease.entry.addressees] == [False, True]
        lease.release(START + 1)


def test_lease_that_has_ended_says_nothing_more(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    lease.record({0: DELIVERED})
    with pytest.raises(RuntimeError):
        lease.record({0: DEFERRED})
    with pytest.raises(RuntimeError):
        lease.release(START)
    with pytest.raises(RuntimeError):
        lease.report(BOUNCE)


def test_lease_left_without_a_word_is_tried_again_later(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    with pytest.raises(ZeroDivisionError), world.claim(shard):
        _ = 1 // 0
    assert due_now(shard, START + 1) == []
    assert len(due_now(shard, START + 3600)) == 1


# Leases


def test_unit_that_somebody_has_is_not_leased_again(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    world.queue.carry_out(Wish.RETRY, Selection())
    assert due_now(shard, START + 1e6) == []
    lease.record({0: DELIVERED})
    assert lease.ended


def test_deliverer_that_dies_loses_nothing(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org", "c@example.org")
    step(shard)
    lease = world.claim(shard)
    lease.record({0: DELIVERED})
    lease.record({1: DEFERRED})
    world.restart()
    shard = world.shard()
    entry = world.claim(shard).entry
    assert [each.outcome for each in entry.addressees] == [DELIVERED, None, None]
    assert entry.attempts == 1


# Notices


def test_unit_is_not_finished_while_a_notice_is_owed(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: FAILED, 1: DELIVERED}, owed={0})
        assert not lease.ended
        assert [each.owed for each in lease.entry.addressees] == [True, False]
    world.restart()
    world.clock.now += 3600
    lease = world.claim(world.shard())
    assert [each.owed for each in lease.entry.addressees] == [True, False]
    assert not any(each.pending for each in lease.entry.addressees)


def test_notice_that_was_committed_is_delivered_and_owed_no_more(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    lease.record({0: FAILED}, owed={0})
    bounce(lease, 0)
    assert lease.ended
    assert domains(world.queue) == ["example.net"]
    step(shard)
    notice = world.claim(shard)
    assert notice.entry.envelope == BOUNCE
    assert body_of(notice) == b"Subject: it failed\r\n\r\n"
    notice.record({0: DELIVERED})
    assert everything(world.queue) == []


def test_notice_about_some_recipients_leaves_the_others(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org", "c@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: FAILED, 1: FAILED, 2: DEFERRED}, owed={0, 1})
        bounce(lease, 0)
        assert [each.owed for each in lease.entry.addressees] == [False, True, False]
        bounce(lease, 1)
        assert not lease.ended
        lease.release(START + 1)
    world.restart()
    assert domains(world.queue) == ["example.net", "example.net", "example.org"]


def test_notice_that_was_aborted_is_still_owed(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: FAILED}, owed={0})
        intake = lease.report(BOUNCE, {0})
        intake.write(b"half of it")
        intake.abort()
        assert lease.entry.addressees[0].owed
        lease.release(START + 1)
    assert domains(world.queue) == ["example.org"]


def test_delay_is_reported_once(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: DEFERRED})
        assert not lease.entry.delay_reported
        bounce(lease)
        assert lease.entry.delay_reported
        assert lease.entry.addressees[0].pending
        lease.release(START + 300)
    world.restart()
    found = {view.entry.domain: view.entry.delay_reported for view in everything(world.queue)}
    assert found == {"example.org": True, "example.net": False}


def test_notice_may_be_forgone(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    lease.record({0: FAILED}, owed={0})
    lease.record({0: FAILED})
    assert lease.ended
    assert everything(world.queue) == []


# The operator


def test_views_say_why_and_until_when(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@one.org", "b@two.org", "c@three.org")
    units = {unit.domain: unit for unit in due_now(shard, START)}
    lease = shard.claim(units["one.org"])
    assert lease is not None
    lease.record({0: DEFERRED})
    lease.release(START + 300)
    active = shard.claim(units["two.org"])
    assert active is not None
    world.queue.carry_out(Wish.HOLD, Selection(domain="three.org"))
    found = {view.entry.domain: view for view in world.queue.views(Selection())}
    assert {domain: view.condition for domain, view in found.items()} == {
        "one.org": Condition.WAITING,
        "two.org": Condition.ACTIVE,
        "three.org": Condition.HELD,
    }
    assert found["one.org"].next_attempt == START + 300
    assert found["one.org"].entry.addressees[0].outcome == DEFERRED


def test_looking_changes_nothing(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@one.org", "b@two.org")
    first = everything(world.queue)
    assert everything(world.queue) == first
    step(shard)
    lease = world.claim(shard)
    everything(world.queue)
    lease.record({0: DELIVERED})
    assert lease.ended
    assert len(due_now(shard, START)) == 1


def test_views_are_selected(world: World) -> None:
    ids = []
    for number in range(3):
        intake = world.queue.begin(
            envelope(f"u{number}@d{number}.org", sender=Mailbox("s", f"from{number}.org"))
        )
        ids.append(intake.commit().id)
        world.clock.now += 100
    world.queue.begin(BOUNCE).commit()
    world.queue.carry_out(Wish.HOLD, Selection(domain="d2.org"))
    queue = world.queue
    assert domains(queue, id=ids[1]) == ["d1.org"]
    assert domains(queue, id=ids[1].lower()) == ["d1.org"]
    assert domains(queue, domain="D1.ORG") == ["d1.org"]
    assert domains(queue, sender="S@From0.org") == ["d0.org"]
    assert domains(queue, sender="<>") == ["example.net"]
    assert domains(queue, recipient="U2@d2.org") == ["d2.org"]
    assert domains(queue, queued_before=START + 100) == ["d0.org"]
    assert domains(queue, queued_after=START + 100) == ["d2.org", "example.net"]
    assert domains(queue, conditions=frozenset({Condition.HELD})) == ["d2.org"]
    assert domains(queue, conditions=frozenset({Condition.WAITING}), id=ids[2]) == []
    assert domains(queue, id="no such id") == []


def test_held_unit_is_not_due_until_it_is_let_go(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    assert world.queue.carry_out(Wish.HOLD, Selection()) == 1
    assert due_now(shard, START + 1e6) == []
    world.restart()
    shard = world.shard()
    assert due_now(shard, START + 1e6) == []
    assert world.queue.carry_out(Wish.RELEASE, Selection()) == 1
    assert len(due_now(shard, START)) == 1


@pytest.mark.parametrize("held", [False, True])
def test_retry_makes_a_unit_due_now(world: World, held: bool) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: DEFERRED})
        lease.release(START + 300)
    if held:
        world.queue.carry_out(Wish.HOLD, Selection())
        assert due_now(shard, START + 1e6) == []
    world.clock.now += 10
    assert world.queue.carry_out(Wish.RETRY, Selection()) == 1
    step(shard)
    assert world.claim(shard).entry.attempts == 1


def test_deleted_unit_is_gone_and_nobody_is_told(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@one.org", "b@two.org")
    assert world.queue.carry_out(Wish.DELETE, Selection(domain="one.org")) == 1
    assert [unit.domain for unit in due_now(shard, START)] == ["two.org"]
    assert domains(world.queue) == ["two.org"]


def test_unit_that_was_handed_out_and_then_deleted_cannot_be_claimed(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    (unit,) = due_now(shard, START)
    world.queue.carry_out(Wish.DELETE, Selection())
    assert shard.claim(unit) is None
    assert shard.waiting() == 0


def test_bounced_unit_fails_for_those_pending_and_is_owed_a_notice(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org")
    step(shard)
    with world.claim(shard) as lease:
        lease.record({0: DELIVERED, 1: DEFERRED})
        lease.release(START + 300)
    assert world.queue.carry_out(Wish.BOUNCE, Selection()) == 1
    step(shard)
    lease = world.claim(shard)
    first, second = lease.entry.addressees
    assert (first.outcome, first.owed) == (DELIVERED, False)
    assert second.outcome is not None
    assert (second.outcome.kind, second.owed) == (Kind.FAILED, True)
    bounce(lease, 1)
    assert lease.ended


@pytest.mark.parametrize("recorded", [False, True])
def test_deleting_beats_an_attempt_under_way(world: World, recorded: bool) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.org")
    step(shard)
    lease = world.claim(shard)
    assert not lease.revoked()
    assert world.queue.carry_out(Wish.DELETE, Selection()) == 1
    assert lease.revoked()
    if recorded:
        lease.record({0: FAILED, 1: DEFERRED}, owed={0})
        assert lease.ended
    else:
        lease.record({0: DEFERRED, 1: DEFERRED})
        lease.release(START + 300)
    assert everything(world.queue) == []
    assert due_now(shard, START + 1e6) == []
    world.restart()
    assert due_now(world.shard(), START + 1e6) == []


def test_deleting_beats_an_attempt_whose_deliverer_dies(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    world.claim(shard)
    world.queue.carry_out(Wish.DELETE, Selection())
    world.restart()
    shard = world.shard()
    assert [shard.claim(unit) for unit in due_now(shard, START + 1e6)] in ([], [None])
    assert everything(world.queue) == []


def test_message_that_was_delivered_while_it_was_deleted_is_delivered(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    world.queue.carry_out(Wish.DELETE, Selection())
    lease.record({0: DELIVERED})
    assert lease.ended
    assert everything(world.queue) == []


@pytest.mark.parametrize(
    ("wish", "condition"),
    [
        (Wish.HOLD, Condition.HELD),
        (Wish.RETRY, Condition.WAITING),
        (Wish.RELEASE, Condition.WAITING),
    ],
)
def test_wish_during_an_attempt_holds_when_it_ends(
    world: World, wish: Wish, condition: Condition
) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    world.clock.now += 10
    assert world.queue.carry_out(wish, Selection()) == 1
    assert lease.revoked() == (wish is Wish.HOLD)
    lease.record({0: DEFERRED})
    lease.release(START + 300)
    (view,) = everything(world.queue)
    assert view.condition is condition
    assert (view.next_attempt < START + 300) == (wish is Wish.RETRY)
    assert len(due_now(shard, START + 10)) == (wish is Wish.RETRY)


def test_wish_that_was_carried_out_does_not_revoke_the_next_attempt(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    world.queue.carry_out(Wish.HOLD, Selection())
    assert lease.revoked()
    lease.release(START)
    world.queue.carry_out(Wish.RELEASE, Selection())
    step(shard)
    again = world.claim(shard)
    assert not again.revoked()
    again.record({0: DELIVERED})
    assert everything(world.queue) == []


def test_last_wish_counts(world: World) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org")
    step(shard)
    lease = world.claim(shard)
    for wish in (Wish.HOLD, Wish.RETRY, Wish.HOLD, Wish.RELEASE):
        world.queue.carry_out(wish, Selection())
    lease.release(START + 300)
    (view,) = everything(world.queue)
    assert (view.condition, view.next_attempt) == (Condition.WAITING, START + 300)


def test_wishes_reach_as_many_as_are_selected(world: World) -> None:
    put(world.queue, "a@one.org", "b@two.org")
    put(world.queue, "c@one.org")
    assert world.queue.carry_out(Wish.HOLD, Selection(domain="one.org")) == 2
    assert world.queue.carry_out(Wish.HOLD, Selection(domain="three.org")) == 0
    held = Selection(conditions=frozenset({Condition.HELD}))
    assert world.queue.carry_out(Wish.DELETE, held) == 2
    assert domains(world.queue) == ["two.org"]


def test_room_is_there_for_what_fits(world: World) -> None:
    assert world.queue.room_for(1)
    assert not world.queue.room_for(1 << 60)
