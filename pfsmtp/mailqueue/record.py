"""The octets of a state: how far one unit has come, in room that is set when its message is put.

    checksum  length  version  phase  attempts  next attempt     23 octets
    the rest                                                     msgpack

Of what remote hosts said, only as much is kept as there is room for; each text once, however many
recipients it was said of. Outcomes, attempts and times are never shortened: `room_for` counts them.
Of a unit that is finished nobody asks how: that it is, is all that is kept.
What a state means is left to `state`, and where it is kept to `slot`.
"""

from __future__ import annotations

import struct
from zlib import crc32

import msgspec

from pfsmtp.mailqueue.state import Draft, Phase, Progress, State
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status

_FRONT = struct.Struct("<IIIBHd")
_CRC = struct.Struct("<I")
_EACH = 64  # octets for each recipient
_TEXTS = 416  # octets for what was said of all
_TEXTS_OF_MANY = 160
_MANY = 4

_LONGEST_TEXTS = (600, 300, 150, 75, 30, 0)
"""Characters of a text that are tried, until the state has room."""

_PHASES = tuple(Phase)
_KINDS = (None, Kind.DELIVERED, Kind.DEFERRED, Kind.FAILED)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_KIND, _OWED, _UNCERTAIN, _NOTIFIES = 3, 4, 8, 16


class _Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One recipient: bits, status, and the number of what was said."""

    bits: int
    status: int = 0
    said: int = 0


class _Said(msgspec.Struct, array_like=True, frozen=True, gc=False):
    text: str
    host: str
    address: str
    command: str
    tls: str | None


class _Rest(msgspec.Struct, array_like=True, frozen=True):
    rows: tuple[_Row, ...]
    said: tuple[_Said, ...] = ()
    tried_at: float | None = None
    wish: int = 0
    delay_reported: bool = False
    reason: str = ""
    draft: tuple[int, int, tuple[int, ...]] | None = None


_NOTHING = _Row(0)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Rest).decode


def room_for(recipients: int, units: int) -> int:
    """The octets to be kept for a state of so many recipients, in a message of so many units."""
    return _EACH * recipients + (_TEXTS if units <= _MANY else _TEXTS_OF_MANY)


def seed_of(id: int) -> int:
    """Where the checksums of the states of that message start from."""
    return (id ^ (id >> 32)) & 0xFFFFFFFF


def encode(state: State, seed: int, room: int) -> bytes:
    """Return the octets of a state, `room` at most; texts are shortened until it has room."""
    for longest in _LONGEST_TEXTS:
        rest = _encode(_shorten(state, longest))
        if _FRONT.size + len(rest) <= room:
            break
    else:
        raise ValueError(f"a state of {len(rest)} octets in room for {room}")
    front = _FRONT.pack(
        0,
        len(rest),
        state.version,
        state.phase,
        min(state.attempts, 0xFFFF),
        state.next_attempt,
    )
    octets = front[_CRC.size :] + rest
    return _CRC.pack(crc32(octets, seed)) + octets


def peek(octets: memoryview, seed: int) -> tuple[int, int, float] | None:
    """Return version, phase and next attempt; None if these are not the octets of a state."""
    crc, length, version, phase, _, next_attempt = _FRONT.unpack_from(octets)
    end = _FRONT.size + length
    if not length or end > len(octets) or crc32(octets[_CRC.size : end], seed) != crc:
        return None
    return version, phase, next_attempt


def decode(octets: memoryview) -> State:
    """Return the state in octets that `peek` has found to be those of one."""
    _, length, version, phase, attempts, next_attempt = _FRONT.unpack_from(octets)
    rest = _decode(octets[_FRONT.size : _FRONT.size + length])
    return State(
        progress=tuple([_progress(row, rest.said) for row in rest.rows]),
        next_attempt=next_attempt,
        phase=_PHASES[phase],
        version=version,
        attempts=attempts,
        tried_at=rest.tried_at,
        wish=rest.wish,
        delay_reported=rest.delay_reported,
        reason=rest.reason,
        draft=Draft(*rest.draft) if rest.draft else None,
    )


def _shorten(state: State, longest: int) -> _Rest:
    """What is put beside the front, with texts of so many characters at most."""
    if state.phase is Phase.FINISHED:
        return _Rest((_NOTHING,) * len(state.progress))
    said: dict[_Said, int] = {}
    rows = []
    for each in state.progress:
        outcome = each.outcome
        if outcome is None:
            rows.append(_NOTHING)
            continue
        words = _words(outcome, longest)
        bits = _NUMBERS[outcome.kind] | each.owed * _OWED
        bits |= outcome.uncertain * _UNCERTAIN | outcome.notifies * _NOTIFIES
        status = outcome.status
        packed = status.kind << 20 | status.subject << 10 | status.detail
        rows.append(_Row(bits, packed, said.setdefault(words, len(said))))
    draft = state.draft
    return _Rest(
        rows=tuple(rows),
        said=tuple(said),
        tried_at=state.tried_at,
        wish=state.wish,
        delay_reported=state.delay_reported,
        reason=_fit(state.reason, longest),
        draft=(draft.place, draft.id, draft.about) if draft else None,
    )


def _words(outcome: Outcome, longest: int) -> _Said:
    return _Said(
        _fit(outcome.text, longest),
        _fit(outcome.host, longest),
        _fit(outcome.address, longest),
        _fit(outcome.command, longest),
        _fit(outcome.tls, longest) if outcome.tls is not None else None,
    )


def _fit(text: str, longest: int) -> str:
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # what no encoding takes
    return text if len(text) <= longest else text[: max(longest - 1, 0)] + "…" * (longest > 0)


def _progress(row: _Row, said: tuple[_Said, ...]) -> Progress:
    kind = _KINDS[row.bits & _KIND]
    if kind is None:
        return Progress()
    words = said[row.said]
    outcome = Outcome(
        kind=kind,
        status=Status(row.status >> 20, row.status >> 10 & 0x3FF, row.status & 0x3FF),
        text=words.text,
        host=words.host,
        address=words.address,
        command=words.command,
        tls=words.tls,
        uncertain=bool(row.bits & _UNCERTAIN),
        notifies=bool(row.bits & _NOTIFIES),
    )
    return Progress(outcome, owed=bool(row.bits & _OWED))
