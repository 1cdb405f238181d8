"""The octets of a slot: what was written is read, or it is called damaged; never anything else."""

from __future__ import annotations

from collections import Counter
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pfsmtp.mailqueue import slot, state
from pfsmtp.mailqueue.body import SlotBody
from pfsmtp.mailqueue.entry import Entry, Wish
from pfsmtp.mailqueue.slot import EMPTY, PAGE, Damage, Head, Measures, Notice, Unit
from pfsmtp.mailqueue.state import Phase, State
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from tests.mailqueue.conftest import DEFERRED, DELIVERED, START, envelope

ID = 0x0123456789ABCDEF
BODY = b"Subject: x\r\n\r\nbody\r\n"

texts = st.text(max_size=40)
mailboxes = st.builds(Mailbox, texts, texts)
recipients = st.builds(
    Recipient,
    mailboxes,
    st.frozensets(st.sampled_from(["NEVER", "SUCCESS", "FAILURE", "DELAY"])),
    st.none() | texts,
)
envelopes = st.builds(
    Envelope,
    st.none() | mailboxes,
    st.lists(recipients, min_size=1, max_size=6).map(tuple),
    st.sampled_from(["7BIT", "8BITMIME"]),
    st.booleans(),
    st.sampled_from([None, "FULL", "HDRS"]),
    st.none() | texts,
)


def compose(
    what: Envelope,
    *,
    body: bytes = BODY,
    id: int = ID,
    outside: bool = False,
    notice: Notice | None = None,
) -> bytearray:
    """A slot as it is put."""
    units = slot.by_domain(what.recipients)
    states = [state.begin(len(each), due=START) for each in units.values()]
    measures = Measures(len(body), crc32(body), eight_bit=True, long_lines=False, outside=outside)
    head = slot.compose(id, what, units, states, measures=measures, queued_at=START, notice=notice)
    octets = head if outside else head + body
    return bytearray(octets.ljust(max(PAGE, -(-len(octets) // PAGE) * PAGE), b"\0"))


def entries(octets: bytes | bytearray) -> list[Entry]:
    """All that can be read of a slot. Raises Damage."""
    view = memoryview(bytes(octets))
    head = Head(view[: slot.reach(view)])
    units = [head.unit(number) for number in range(head.units)]
    blocks = [unit.block(view) for unit in units]
    found = [
        slot.entry_of(head, unit, block, unit.state(block))
        for unit, block in zip(units, blocks, strict=True)
    ]
    SlotBody(bytes(view[head.body_at : head.end]), head.measures)
    return found


def state_of(unit: Unit, octets: bytearray | memoryview) -> State:
    return unit.state(unit.block(memoryview(octets)))


@given(envelopes)
def test_what_was_put_is_read(what: Envelope) -> None:
    found = entries(compose(what))
    together = Counter(each for entry in found for each in entry.envelope.recipients)
    assert together == Counter(what.recipients)
    for entry in found:
        assert structs.replace(entry.envelope, recipients=what.recipients) == what
        assert {each.mailbox.domain.lower() for each in entry.envelope.recipients} == {entry.domain}
        assert (entry.queued_at, entry.size, entry.eight_bit) == (START, len(BODY), True)


def test_notice_is_kept() -> None:
    notice = Notice(1 << 62, 1 << 63)
    octets = memoryview(bytes(compose(envelope("a@example.org"), notice=notice)))
    assert Head(octets).notice == notice
    octets = memoryview(bytes(compose(envelope("a@example.org"))))
    assert Head(octets).notice is None


def test_flipped_octet_is_damage_or_changes_nothing() -> None:
    whole = compose(envelope("a@one.org", "b@two.org"))
    right = entries(whole)
    view = memoryview(bytes(whole))
    head = Head(view)
    units = [head.unit(number) for number in range(2)]
    changing = [range(unit.start, unit.start + slot.WISH_SIZE + 2 * unit.room) for unit in units]
    changing.append(range(head.end, PAGE))
    for at in range(head.end + 16):
        for flip in (0x01, 0x80, 0xFF):
            broken = bytearray(whole)
            broken[at] ^= flip
            try:
                found = entries(broken)
            except Damage:
                continue
            # A wish that nobody made, or a state that nobody wrote.
            assert any(at in each for each in changing)
            assert found == right


def test_cut_slot_is_damage() -> None:
    whole = compose(envelope("a@one.org", "b@two.org"))
    used = len(bytes(whole).rstrip(b"\0"))
    for length in range(used):
        with pytest.raises(Damage):
            entries(whole[:length].ljust(PAGE, b"\0"))
        with pytest.raises(Damage):
            entries(whole[:length])


@given(st.binary(max_size=200))
def test_foreign_octets_are_damage(octets: bytes) -> None:
    for foreign in (octets, b"pfsmtpQ1" + octets):
        for padded in (foreign, foreign.ljust(PAGE, b"\0"), foreign.ljust(PAGE, b"\xff")):
            with pytest.raises(Damage):
                entries(padded)


def test_state_that_is_torn_leaves_the_one_before() -> None:
    what = envelope("a@example.org", "b@example.org")
    octets = compose(what)
    unit = Head(memoryview(bytes(octets))).unit(0)
    before = state_of(unit, octets)
    for _ in range(3):
        after = state.record(before, {0: DELIVERED, 1: DEFERRED}, ())
        after = structs.replace(after, version=before.version + 1, attempts=after.attempts + 1)
        at, written = unit.state_at(after.version), unit.encode(after)
        for length in range(len(written)):
            torn = bytearray(octets)
            torn[at : at + length] = written[:length]
            found = state_of(unit, torn)
            assert found in (before, after)
            assert found == before or torn[at : at + len(written)] == written
        octets[at : at + len(written)] = written
        assert state_of(unit, octets) == after
        before = after


def test_what_a_former_message_left_never_counts() -> None:
    what = envelope("a@example.org")
    octets = compose(what)
    unit = Head(memoryview(bytes(octets))).unit(0)
    last = structs.replace(state_of(unit, octets), version=7, phase=Phase.FINISHED)
    at = unit.state_at(7)
    octets[at : at + unit.room] = unit.encode(last).ljust(unit.room, b"\0")
    octets[unit.start : unit.start + slot.WISH_SIZE] = unit.encode_wish(3, Wish.DELETE)
    next_one = compose(what, id=ID + 1)
    # All but the room for the second state and the wish is written over.
    for start, length in ((at, unit.room), (unit.start, slot.WISH_SIZE)):
        next_one[start : start + length] = octets[start : start + length]
    view = memoryview(bytes(next_one))
    unit = Head(view).unit(0)
    assert state_of(unit, view).phase is Phase.WAITING
    assert unit.wish(unit.block(view)) is None


@pytest.mark.parametrize("wish", list(Wish))
def test_wish_is_read_as_it_was_written(wish: Wish) -> None:
    octets = compose(envelope("a@example.org"))
    unit = Head(memoryview(bytes(octets))).unit(0)
    assert unit.wish(unit.block(memoryview(octets))) is None
    octets[unit.start : unit.start + slot.WISH_SIZE] = unit.encode_wish(42, wish)
    assert unit.wish(unit.block(memoryview(octets))) == (42, wish)


def test_slot_is_free_when_it_is_empty_or_all_in_it_is_finished() -> None:
    assert slot.is_free(memoryview(EMPTY))
    octets = compose(envelope("a@one.org", "b@two.org"))
    head = Head(memoryview(bytes(octets)))
    for number in range(2):
        assert not slot.is_free(memoryview(octets))
        unit = head.unit(number)
        last = structs.replace(state_of(unit, octets), version=1, phase=Phase.FINISHED)
        at = unit.state_at(1)
        written = unit.encode(last)
        octets[at : at + len(written)] = written
    assert slot.is_free(memoryview(octets))


def test_short_message_to_one_recipient_fits_one_page() -> None:
    message = b"x" * 2500
    assert len(compose(envelope("alice@example.org"), body=message)) == PAGE
