"""The contract of a queue: what a back end offers to receivers, deliverers and the operator.

    receiver     begin → Intake; when its commit returns, the message is safe
    deliverer    shard → hear, due, claim → Lease; record, report, release
    operator     views, damaged (change nothing), carry_out

The unit of work is one message to one destination domain. It is worked on under a lease, which
ends with the process that holds it, so that a deliverer that dies loses nothing. What a lease
records is safe when the call returns. A unit whose recipients all have a final outcome, and whose
sender is owed no notice, is finished, and gone.

Exactly-once is kept on this side: an outcome that was recorded is never asked for again, and a
notice that was committed is delivered, and is never asked for again, wherever a crash comes.

`spool` is the back end that keeps files. The same tests serve every back end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from pfsmtp.mailqueue.entry import Damaged, Entry, Selection, View, Wish
from pfsmtp.smtp.client.transaction import Content
from pfsmtp.smtp.envelope import Envelope
from pfsmtp.smtp.outcome import Outcome
from pfsmtp.smtp.ports import Intake


class EventLog(Protocol):
    """Where a back end writes what the operator should know."""

    def event(self, name: str, /, **fields: object) -> None: ...


class Unit(Protocol):
    """One message to one domain, waiting; to be handed back to the shard it came from."""

    @property
    def domain(self) -> str: ...

    @property
    def due(self) -> float: ...

    @property
    def wish(self) -> Wish | None:
        """What the operator has done with it since it was last handed out."""
        ...


class Lease(Protocol):
    """The right to work on one unit; of one thread. Ends with `release`, or when it is finished.

    As a context manager it ends in any case; left without a word, the unit is tried again later.
    """

    @property
    def entry(self) -> Entry:
        """As it is now: what was recorded is in it."""
        ...

    @property
    def body(self) -> Content:
        """The message as it was put; seen to be whole when the unit was claimed."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing more can be said: it is finished, released, or was deleted meanwhile."""
        ...

    def __enter__(self) -> Lease: ...

    def __exit__(self, *exception: object) -> None: ...

    def revoked(self) -> bool:
        """Whether the operator wants this unit deleted, held or bounced, rather than tried."""
        ...

    def record(self, outcomes: Mapping[int, Outcome], *, owed: Collection[int] = ()) -> None:
        """Note what became of recipients, by their number in `entry.addressees`.

        To those in `owed` a notice is due: the unit is not finished before `report` has told the
        sender about them. Recording a recipient anew, without `owed`, forgoes it. What is final is
        safe when this returns; what is not is when the lease ends.
        """
        ...

    def report(self, envelope: Envelope, about: Collection[int] = ()) -> Intake:
        """Begin a notice to the sender about these recipients; about the delay if there are none.

        Its commit puts it in the queue and notes that the sender was told: both, or neither.
        """
        ...

    def release(self, until: float, *, reason: str = "") -> None:
        """End the lease; the unit is due again then. `reason` is for what no remote said."""
        ...


class Shard(Protocol):
    """The units of one deliverer: those of the domains that fall to it. Safe among threads."""

    def hear(self, timeout: float | None = None) -> None:
        """Wait for news, so many seconds at most; of all threads that wait, one hears of it."""
        ...

    def call(self) -> None:
        """Make `hear` return to one thread."""
        ...

    def keep_time(self, timeout: float) -> None:
        """Call somebody once a unit is due; do what else the clock asks for. For one thread.

        Returns now and then, after so many seconds at most.
        """
        ...

    def wake(self) -> None:
        """Make `keep_time` return."""
        ...

    def is_due(self, now: float) -> bool:
        """Whether there is a unit to hand out."""
        ...

    def due(self, now: float) -> Unit | None:
        """Hand out the next unit that is due, None if there is none; each once until it is back."""
        ...

    def put_off(self, unit: Unit, until: float) -> None:
        """Take a unit back untried; what is on disk does not change."""
        ...

    def claim(self, unit: Unit) -> Lease | None:
        """Lease a unit that was handed out.

        None when there is nothing to do about it now: it is gone, held, not due any more, damaged,
        or at work elsewhere; the shard then takes care of it.
        """
        ...

    def waiting(self) -> int:
        """How many units it knows of."""
        ...

    def close(self) -> None:
        """Hand out no more, and leave all to the next deliverer. Leases under way may still end."""
        ...

    def finish(self) -> None:
        """All leases have ended: note once more what could not be noted. Never raises."""
        ...


class Queue(Protocol):
    """Mail at rest."""

    def begin(self, envelope: Envelope) -> Intake:
        """Start to put a message; touches no disk. Commit and write raise DeliveryFailure."""
        ...

    def room_for(self, size: int) -> bool:
        """Whether a message of so many octets would fit."""
        ...

    def shard(self, index: int) -> Shard:
        """Become the deliverer of that index. Raises OSError."""
        ...

    def views(self, selection: Selection) -> Iterator[View]:
        """The units that are selected, in no order. Changes nothing. Raises OSError."""
        ...

    def damaged(self) -> list[Damaged]:
        """What was set aside. Changes nothing. Raises OSError."""
        ...

    def carry_out(self, wish: Wish, selection: Selection) -> int:
        """Do something with all units that are selected; returns how many. Raises OSError.

        Those at work are done with as soon as the attempt ends, which cannot undo it: a unit that
        was deleted is not tried again, and its sender not told.
        """
        ...
