"""The octets of a slot: a message on disk, and how far each of its units has come. Pure functions.

    head        magic, checksum, id, time, sizes, flags             52 octets
    table       a row for each unit: where it is, how large          16 octets each
    common      reverse-path and the parameters of MAIL              msgpack
    units       for each: wish | state | state | domain, recipients
    body        the message with CRLF, if it fits; else it has a file of its own
    padding     zeros up to a whole page

All up to the body is `body_at` octets, and nearly always within the first page. Head, table and
common have one checksum, the fixed part of each unit another, the body a third. They never change
while the message lives; what changes is written over in place:

* A unit has room for two states. A new one goes where the older one is, with its own checksum, so
  that a torn write leaves the state before.
* A unit has room for one wish of the operator, which may be written by who holds no lease.

Their checksums start from the message's id: what a former message left in the slot never counts.

This rests on what databases rest on for the last page of their logs: writing some octets of a page
anew, and the others as they were, does not harm the others, even when the power goes.

A slot is free when its first page is all zeros, or when all units in it are finished. Whatever is
neither free nor as it should be is `Damage`. Where the octets come from is left to `segment`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NewType, TypeVar
from zlib import crc32

import msgspec
from msgspec import Struct

from pfsmtp.mailqueue import record
from pfsmtp.mailqueue.entry import Addressee, Entry, Wish, text_of
from pfsmtp.mailqueue.state import Phase, State
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Body, Envelope, Notify, Recipient, Return

PAGE = 4096
EMPTY = bytes(PAGE)

_MAGIC = b"pfsmtpQ1"
_HEAD = struct.Struct("<8sIQdIHHIQI")
_CHECKED_FROM = 12  # the magic and the checksum are not in it
_ROW = struct.Struct("<IIII")
_WISH = struct.Struct("<IIQB7x")
WISH_SIZE = _WISH.size
_WISHES = tuple(Wish)  # their order is on disk
_EIGHT_BIT, _LONG_LINES, _OUTSIDE = 1, 2, 4

_pack = msgspec.msgpack.Encoder().encode

T = TypeVar("T")

Block = NewType("Block", memoryview)
"""The octets of one unit, out of those of its slot."""


class Damage(Exception):
    """These octets are not what was written; the text says in a few words what is wrong."""


class Measures(Struct, frozen=True, gc=False):
    """What is known of the body."""

    length: int
    crc: int
    eight_bit: bool
    long_lines: bool
    outside: bool = False  # in a file of its own


class Notice(Struct, frozen=True, gc=False):
    """What a notice is about: the place and the id of the message it tells the sender of."""

    place: int
    id: int


class _Common(Struct, array_like=True, frozen=True):
    sender: tuple[str, str] | None
    body: Body
    smtputf8: bool
    returning: Return | None
    envelope_id: str | None
    notice: tuple[int, int] | None


class _Address(Struct, array_like=True, frozen=True):
    local_part: str
    domain: str
    notify: tuple[Notify, ...] = ()
    original: str | None = None


class _Fixed(Struct, array_like=True, frozen=True):
    domain: str
    addresses: tuple[_Address, ...]


class _Domain(Struct, array_like=True, frozen=True, gc=False):
    """The beginning of `_Fixed`, for who wants no more."""

    domain: str


_unpack_common = msgspec.msgpack.Decoder(_Common).decode
_unpack_fixed = msgspec.msgpack.Decoder(_Fixed).decode
_unpack_domain = msgspec.msgpack.Decoder(_Domain).decode


def by_domain(recipients: Iterable[Recipient]) -> dict[str, list[Recipient]]:
    """The units of a message: its recipients by domain, in lower case."""
    units: dict[str, list[Recipient]] = {}
    for recipient in recipients:
        units.setdefault(recipient.mailbox.domain.lower(), []).append(recipient)
    return units


class Unit:
    """Where one unit is within its slot; `block` is what is there."""

    __slots__ = ("_fixed", "_seed", "end", "id", "room", "start")

    def __init__(self, id: int, row: tuple[int, int, int, int]) -> None:
        self.start, self.room, fixed_length, fixed_crc = row
        self.end = self.start + WISH_SIZE + 2 * self.room + fixed_length
        self.id = id
        self._seed = record.seed_of(id)
        self._fixed = (fixed_length, fixed_crc)

    def block(self, octets: memoryview) -> Block:
        """What is of this unit in the octets of the whole slot. Raises Damage."""
        if len(octets) < self.end:
            raise Damage("the slot ends before the unit does")
        return Block(octets[self.start : self.end])

    def state_at(self, version: int) -> int:
        """Where in the slot the state of that version is kept."""
        return self.start + WISH_SIZE + self.room * (version & 1)

    def peek(self, block: Block) -> tuple[int, int, float]:
        """Return version, phase and next attempt of its state. Raises Damage."""
        first = record.peek(self._state_in(block, 0), self._seed)
        second = record.peek(self._state_in(block, 1), self._seed)
        if first is None or (second is not None and second[0] > first[0]):
            first = second
        if first is None:
            raise Damage("no state of a unit is whole")
        return first

    def state(self, block: Block) -> State:
        """Return its state. Raises Damage."""
        version, _, _ = self.peek(block)
        try:
            return record.decode(self._state_in(block, version))
        except (msgspec.MsgspecError, ValueError, IndexError) as error:
            raise Damage("the state of a unit makes no sense") from error

    def encode(self, state: State) -> bytes:
        return record.encode(state, self._seed, self.room)

    def domain(self, block: Block) -> str:
        """Return its domain only, in lower case. Raises Damage."""
        return _read(_unpack_domain, self._fixed_in(block)).domain

    def recipients(self, block: Block) -> tuple[str, tuple[Recipient, ...]]:
        """Return its domain and its recipients. Raises Damage."""
        fixed = _read(_unpack_fixed, self._fixed_in(block))
        return fixed.domain, tuple([_recipient(each) for each in fixed.addresses])

    def wish(self, octets: bytes | Block) -> tuple[int, Wish] | None:
        """Return the operator's last wish with its number; None if there is none.

        The first octets of the block are enough.
        """
        wish = bytes(octets[:WISH_SIZE])
        if len(wish) != WISH_SIZE:
            return None
        crc, number, id, kind = _WISH.unpack(wish)
        if not number or id != self.id or kind >= len(_WISHES) or crc32(wish[4:]) != crc:
            return None
        return number, _WISHES[kind]

    def encode_wish(self, number: int, wish: Wish) -> bytes:
        octets = _WISH.pack(0, number, self.id, _WISHES.index(wish))
        return crc32(octets[4:]).to_bytes(4, "little") + octets[4:]

    def _state_in(self, block: Block, version: int) -> memoryview:
        at = WISH_SIZE + self.room * (version & 1)
        return block[at : at + self.room]

    def _fixed_in(self, block: Block) -> memoryview:
        length, crc = self._fixed
        fixed = block[WISH_SIZE + 2 * self.room :]
        if len(fixed) != length or crc32(fixed) != crc:
            raise Damage("the recipients are not what was written")
        return fixed


class Head:
    """What a slot holds, as far as it never changes."""

    __slots__ = ("_common", "_octets", "_units", "body_at", "id", "measures", "queued_at")

    def __init__(self, octets: memoryview) -> None:
        """Read it from what `head_reach` asks for, at least. Raises Damage."""
        magic, crc, id, queued_at, common, units, flags, body_at, length, body_crc = (
            _HEAD.unpack_from(octets)
        )
        if magic != _MAGIC:
            raise Damage("this is not the head of a message")
        table_end = _HEAD.size + units * _ROW.size
        end = table_end + common
        self.body_at: int = body_at
        self.id: int = id
        self._octets = octets
        self._units: int = units
        self._common = (table_end, end)
        if end > len(octets) or crc32(octets[_CHECKED_FROM:end]) != crc:
            raise Damage("the head is not what was written")
        if not units or body_at < end:
            raise Damage("the head makes no sense")
        self.queued_at: float = queued_at
        self.measures = Measures(
            length,
            body_crc,
            eight_bit=bool(flags & _EIGHT_BIT),
            long_lines=bool(flags & _LONG_LINES),
            outside=bool(flags & _OUTSIDE),
        )

    @property
    def units(self) -> int:
        return self._units

    def unit(self, number: int) -> Unit:
        """Where a unit is. Raises Damage when there is no such unit."""
        if number >= self._units:
            raise Damage("there is no such unit")
        unit = Unit(self.id, _ROW.unpack_from(self._octets, _HEAD.size + number * _ROW.size))
        if unit.end > self.body_at:
            raise Damage("a unit is outside of the head")
        return unit

    def envelope(self, recipients: tuple[Recipient, ...]) -> Envelope:
        """The envelope, with the recipients that are wanted in it."""
        common = self._read_common()
        return Envelope(
            Mailbox(*common.sender) if common.sender else None,
            recipients,
            common.body,
            common.smtputf8,
            common.returning,
            common.envelope_id,
        )

    @property
    def end(self) -> int:
        """How many octets of the slot are used."""
        return self.body_at + (0 if self.measures.outside else self.measures.length)

    @property
    def notice(self) -> Notice | None:
        notice = self._read_common().notice
        return Notice(*notice) if notice else None

    def _read_common(self) -> _Common:
        start, end = self._common
        return _read(_unpack_common, self._octets[start:end])


def is_empty(octets: memoryview) -> bool:
    """Whether this first page never held a message, or one that was taken back."""
    return bytes(octets[:PAGE]) == EMPTY  # a memoryview compares octet by octet


def reach(page: memoryview) -> int:
    """Return how many octets of a slot to read, given its first page, for all up to the body.

    Raises Damage.
    """
    return max(PAGE, _front(page)[7]) if _is_head(page) else PAGE


def head_reach(page: memoryview) -> int:
    """As `reach`, for the head without the units."""
    if not _is_head(page):
        return PAGE
    _, _, _, _, common, units, *_ = _front(page)
    return max(PAGE, _HEAD.size + units * _ROW.size + common)


def is_free(octets: memoryview) -> bool:
    """Whether a message may be put here; `octets` reach to its `body_at`. Raises Damage."""
    if is_empty(octets):
        return True
    head = Head(octets)
    for number in range(head.units):
        unit = head.unit(number)
        _, phase, _ = unit.peek(unit.block(octets))
        if phase != Phase.FINISHED:
            return False
    return True


def entry_of(head: Head, unit: Unit, block: Block, state: State) -> Entry:
    """A unit as its deliverer sees it. Raises Damage."""
    domain, recipients = unit.recipients(block)
    if len(recipients) != len(state.progress):
        raise Damage("the state of a unit is that of others")
    return Entry(
        id=text_of(head.id),
        domain=domain,
        envelope=head.envelope(recipients),
        addressees=tuple(
            [
                Addressee(recipient, progress.outcome, progress.owed)
                for recipient, progress in zip(recipients, state.progress, strict=True)
            ]
        ),
        queued_at=head.queued_at,
        size=head.measures.length,
        eight_bit=head.measures.eight_bit,
        long_lines=head.measures.long_lines,
        attempts=state.attempts,
        tried_at=state.tried_at,
        delay_reported=state.delay_reported,
    )


def compose(
    id: int,
    envelope: Envelope,
    units: dict[str, list[Recipient]],
    states: Sequence[State],
    *,
    measures: Measures,
    queued_at: float,
    notice: Notice | None = None,
) -> bytes:
    """Return the octets of a slot up to the body."""
    common = _pack(_common(envelope, notice))
    at = _HEAD.size + len(units) * _ROW.size + len(common)
    table = []
    blocks: list[bytes] = []
    for (domain, recipients), state in zip(units.items(), states, strict=True):
        room = record.room_for(len(recipients), len(units))
        first = record.encode(state, record.seed_of(id), room)
        fixed = _pack(_Fixed(domain, tuple([_address(each) for each in recipients])))
        blocks += (bytes(WISH_SIZE), first, bytes(2 * room - len(first)), fixed)
        table.append(_ROW.pack(at, room, len(fixed), crc32(fixed)))
        at += WISH_SIZE + 2 * room + len(fixed)
    flags = (
        measures.eight_bit * _EIGHT_BIT
        | measures.long_lines * _LONG_LINES
        | measures.outside * _OUTSIDE
    )
    head = _HEAD.pack(
        _MAGIC,
        0,
        id,
        queued_at,
        len(common),
        len(units),
        flags,
        at,
        measures.length,
        measures.crc,
    )
    checked = b"".join((head[_CHECKED_FROM:], *table, common))
    return b"".join((_MAGIC, crc32(checked).to_bytes(4, "little"), checked, *blocks))


def _is_head(page: memoryview) -> bool:
    if len(page) < PAGE:
        raise Damage("the file ends before the slot does")
    return page[:8] == _MAGIC


def _front(page: memoryview) -> tuple[int, ...]:
    return _HEAD.unpack_from(page)


def _read(decode: Callable[[memoryview], T], octets: memoryview) -> T:
    try:
        return decode(octets)
    except msgspec.MsgspecError as error:
        raise Damage("what was written makes no sense") from error


def _common(envelope: Envelope, notice: Notice | None) -> _Common:
    sender = envelope.reverse_path
    return _Common(
        (sender.local_part, sender.domain) if sender else None,
        envelope.body,
        envelope.smtputf8,
        envelope.returning,
        envelope.envelope_id,
        (notice.place, notice.id) if notice else None,
    )


def _address(recipient: Recipient) -> _Address:
    mailbox = recipient.mailbox
    return _Address(mailbox.local_part, mailbox.domain, tuple(recipient.notify), recipient.original)


def _recipient(address: _Address) -> Recipient:
    mailbox = Mailbox(address.local_part, address.domain)
    return Recipient(mailbox, frozenset(address.notify), address.original)
