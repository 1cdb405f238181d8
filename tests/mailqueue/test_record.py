"""The octets of a state: read as written, and never larger than the room that was kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pfsmtp.mailqueue import record
from pfsmtp.mailqueue.state import Draft, Phase, Progress, State
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status

SEED = record.seed_of(0xFEDCBA9876543210)

numbers = st.integers(0, 999)
statuses = st.builds(Status, st.sampled_from([2, 4, 5]), numbers, numbers)
texts = st.text(max_size=60) | st.text(min_size=500, max_size=2000)
outcomes = st.builds(
    Outcome,
    st.sampled_from(Kind),
    statuses,
    texts,
    texts,
    texts,
    texts,
    st.none() | texts,
    st.booleans(),
    st.booleans(),
)
progress = st.builds(Progress, st.none() | outcomes, st.booleans()).map(
    lambda each: each if each.outcome else Progress()
)
times = st.floats(0, 1e11)
states = st.builds(
    State,
    st.lists(progress, min_size=1, max_size=8).map(tuple),
    times,
    st.sampled_from(Phase),
    st.integers(0, 1 << 31),
    st.integers(0, 0xFFFF),
    st.none() | times,
    st.integers(0, 1 << 31),
    st.booleans(),
    texts,
    st.none()
    | st.builds(
        Draft,
        st.integers(0, (1 << 64) - 1),
        st.integers(0, (1 << 64) - 1),
        st.lists(st.integers(0, 999), max_size=3).map(tuple),
    ),
)


def kept(state: State) -> State:
    """What is kept of a state where there is room: of one that is finished, only that it is."""
    if state.phase is not Phase.FINISHED:
        return state
    return State(
        (Progress(),) * len(state.progress),
        state.next_attempt,
        state.phase,
        state.version,
        state.attempts,
    )


def bare(state: State) -> State:
    """A state without what may be shortened."""
    return structs.replace(state, reason="", progress=tuple(map(without_words, state.progress)))


def without_words(progress: Progress) -> Progress:
    outcome = progress.outcome
    if outcome is None:
        return progress
    bare = structs.replace(outcome, text="", host="", address="", command="", tls=None)
    return structs.replace(progress, outcome=bare)


@given(states)
def test_state_is_read_as_written_where_there_is_room(state: State) -> None:
    octets = record.encode(state, SEED, 1 << 20)
    assert bare(record_of(octets)) == bare(kept(state))
    if all(len(repr(each)) < 600 for each in (*state.progress, state.reason)):
        assert record_of(octets) == kept(state)


@given(states, st.sampled_from([1, 5]))
def test_any_state_fits_the_room_that_is_kept_for_it(state: State, units: int) -> None:
    room = record.room_for(len(state.progress), units)
    octets = record.encode(state, SEED, room)
    assert len(octets) <= room
    assert bare(record_of(octets)) == bare(kept(state))


@pytest.mark.parametrize("recipients", [100, 1000, 5000])
def test_many_recipients_of_whom_all_is_different_fit(recipients: int) -> None:
    rows = tuple(
        Progress(
            Outcome(Kind.FAILED, Status(5, 999, number % 1000), f"{number} " * 100, f"mx{number}"),
            owed=True,
        )
        for number in range(recipients)
    )
    draft = Draft((1 << 63) - 1, (1 << 64) - 1, tuple(range(recipients)))
    state = State(rows, 1e9, tried_at=1e9, draft=draft, reason="x" * 1000)
    octets = record.encode(state, SEED, record.room_for(recipients, 100))
    assert bare(record_of(octets)) == bare(state)


def test_what_was_said_of_many_is_kept_once_and_whole() -> None:
    said = Outcome(Kind.DEFERRED, Status(4, 2, 0), "x" * 300, "mx.example.org", "192.0.2.1")
    state = State((Progress(said),) * 100, 1e9)
    assert record_of(record.encode(state, SEED, record.room_for(100, 1))) == state


def test_of_a_unit_that_is_finished_only_that_is_kept() -> None:
    said = Outcome(Kind.DELIVERED, Status(2, 0, 0), "x" * 300, "mx.example.org", "192.0.2.1")
    state = State((Progress(said),) * 2, 1e9, Phase.FINISHED, version=3, attempts=1, tried_at=1e9)
    octets = record.encode(state, SEED, record.room_for(2, 1))
    assert len(octets) < 50
    read = record_of(octets)
    assert read == State((Progress(),) * 2, 1e9, Phase.FINISHED, version=3, attempts=1)


def test_text_that_no_encoding_takes_can_be_written() -> None:
    said = Outcome(Kind.FAILED, Status(5, 0, 0), "caf\udce9", host="\ud800")
    read = record_of(record.encode(State((Progress(said),), 1e9), SEED, 480))
    assert read.progress[0].outcome == Outcome(Kind.FAILED, Status(5, 0, 0), "caf?", host="?")


def test_state_of_another_message_is_none() -> None:
    octets = memoryview(record.encode(State((Progress(),), 1e9), SEED, 480))
    assert record.peek(octets, SEED) is not None
    assert record.peek(octets, SEED + 1) is None


def test_room_that_was_never_written_is_none() -> None:
    assert record.peek(memoryview(bytes(480)), SEED) is None
    assert record.peek(memoryview(bytes(480)), 0) is None


def record_of(octets: bytes) -> State:
    front = record.peek(memoryview(octets), SEED)
    state = record.decode(memoryview(octets + bytes(10)))
    assert front == (state.version, state.phase, state.next_attempt)
    return state
