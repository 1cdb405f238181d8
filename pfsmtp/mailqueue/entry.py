"""What is in the queue, as values: all that a back end shows of a message to one domain.

The unit of work is one message to one destination domain. An `Entry` is such a unit as its
deliverer sees it; a `View` is one as the operator sees it. Nothing here changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from msgspec import Struct

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.outcome import Outcome


class Addressee(Struct, frozen=True):
    """One recipient, and what has become of it so far."""

    recipient: Recipient
    outcome: Outcome | None = None  # of the last attempt; None before the first
    owed: bool = False  # the sender is still to be told

    @property
    def pending(self) -> bool:
        """Whether it is still to be delivered."""
        return self.outcome is None or not self.outcome.is_final


class Entry(Struct, frozen=True):
    """One message to one domain. Times are in Unix seconds."""

    id: str
    domain: str  # lower case
    envelope: Envelope  # with the recipients in this domain only
    addressees: tuple[Addressee, ...]  # in the order of the envelope
    queued_at: float
    size: int  # octets, with CRLF
    eight_bit: bool  # holds octets above 127
    long_lines: bool  # holds lines of more than 998 octets
    attempts: int  # made so far
    tried_at: float | None
    delay_reported: bool  # the sender was told that it takes longer


def text_of(id: int) -> str:
    """An id as people and logs write it."""
    return f"{id:016X}"


class Condition(Enum):
    """How a unit is, for the operator."""

    WAITING = "waiting"
    ACTIVE = "active"  # an attempt is under way
    HELD = "held"
    DAMAGED = "damaged"


class Wish(Enum):
    """What the operator wants done with a unit."""

    HOLD = "hold"
    RELEASE = "release"  # no longer held; due at its time
    RETRY = "retry"  # due now, and no longer held
    DELETE = "delete"  # gone, and nobody is told
    BOUNCE = "bounce"  # failed for those still pending, and the sender is told


@dataclass(frozen=True, slots=True)
class View:
    """One unit as the operator sees it; what was said is in the outcomes of its addressees."""

    entry: Entry
    condition: Condition
    next_attempt: float
    reason: str  # why it waits, when that is nothing a remote said


@dataclass(frozen=True, slots=True)
class Damaged:
    """A message that cannot be read any more and was set aside."""

    name: str  # of its file
    since: float
    size: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which units are meant; what is None does not matter. Domains and mailboxes fold case."""

    id: str | None = None
    domain: str | None = None
    sender: str | None = None  # "<>" is the null path
    recipient: str | None = None
    queued_before: float | None = None
    queued_after: float | None = None
    conditions: frozenset[Condition] = frozenset(Condition)

    def wants(self, entry: Entry) -> bool:
        """Whether this unit is meant, whatever its condition."""
        return (
            (self.id is None or self.id.upper() == entry.id)
            and (self.domain is None or self.domain.lower() == entry.domain)
            and (self.sender is None or _same(self.sender, entry.envelope.reverse_path))
            and (self.recipient is None or self._wants_recipient(entry))
            and (self.queued_before is None or entry.queued_at < self.queued_before)
            and (self.queued_after is None or entry.queued_at > self.queued_after)
        )

    def _wants_recipient(self, entry: Entry) -> bool:
        wanted = self.recipient or ""
        return any(_same(wanted, each.mailbox) for each in entry.envelope.recipients)


def _same(wanted: str, mailbox: Mailbox | None) -> bool:
    return wanted.casefold() == (str(mailbox) if mailbox else "<>").casefold()
