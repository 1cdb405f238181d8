"""The deliverer: a worker's threads that take mail out of the queue and hand it on.

All idle threads wait for news of the shard, of which one of them hears; who takes a message sees
to it that another thread waits, and delivers it; then it goes on with those that wait in line for
the same destination, and with whatever else is due. A destination that may not be tried now costs
no thread: its mail is put off before it is claimed. One more thread keeps the time.

What becomes of a message here, in order: claim it, say what is still owed to its sender, try to
hand it on, record the outcomes, tell the sender, give it back until the next time. Each step is
safe on disk before the next, so that a crash repeats none but the attempt it was in.

The worker's main thread starts and drains it (`process.service.Body`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from msgspec.structs import replace

from pfsmtp.delivery.relay import Relay
from pfsmtp.delivery.relay.backoff import Held
from pfsmtp.delivery.relay.form import Unit as Mail
from pfsmtp.log import Log
from pfsmtp.mailqueue.backend import Lease, Shard, Unit
from pfsmtp.mailqueue.entry import Entry, Wish
from pfsmtp.mailqueue.resting import Resting
from pfsmtp.mailqueue.schedule import Schedule
from pfsmtp.process.service import Context
from pfsmtp.roles.lines import Lines
from pfsmtp.roles.notices import Notices
from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status

_ROUND = 1.0
"""Seconds between two looks at what can be let go of."""
_SPARE = 32
"""Threads that stay to wait for the next message."""
_TROUBLE = 60.0
"""Seconds until a message is tried again that met with trouble of our own."""
_STACK = 512 * 1024

_EXPIRED = Status(5, 4, 7)  # RFC 3463 §3.5: delivery time expired


class Deliverer:
    """Delivers the mail of one shard until it is drained."""

    def __init__(
        self,
        context: Context,
        shard: Shard,
        relay: Relay,
        *,
        schedule: Schedule,
        notices: Notices,
        most: int,
        publish: Callable[[list[Resting]], None],
        log: Log,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`clock` is the relay's, monotonic; `wall_clock` is the queue's, in Unix seconds.

        `publish` tells the operator which destinations are left alone.
        """
        self._shard = shard
        self._relay = relay
        self._schedule = schedule
        self._notices = notices
        self._most = most
        self._publish = publish
        self._published: list[tuple[str, Held]] | None = None
        self._log = log.bind(deliverer=context.index + 1)
        self._clock = clock
        self._wall_clock = wall_clock
        self._lines = Lines(relay, self._give_back)
        self._lock = threading.Lock()  # over the counts of threads
        self._threads = 0
        self._idle = 0
        self._draining = False
        self._delivered = 0
        self._tidied = 0.0

    # -- process.service.Body

    def start(self) -> None:
        threading.stack_size(_STACK)
        threading.Thread(target=self._keep_time, daemon=True).start()
        with self._lock:
            self._start_thread()

    def drain(self) -> None:
        self._draining = True
        self._shard.close()
        self._lines.close()
        self._shard.wake()
        self._shard.call()

    def finished(self) -> bool:
        return self._threads == 0

    def stop(self) -> None:
        """Nothing to do: leases end with the process."""

    def reopen(self) -> None:
        self._log.reopen()

    def core_taken(self, share: float) -> None:
        """Nothing to do: which deliverer a message is for is said by its domain."""

    def title(self) -> str:
        busy = self._threads - self._idle
        return f"{busy} attempts {self._delivered} delivered {self._shard.waiting()} waiting"

    # -- threads

    def _start_thread(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()
        self._threads += 1
        self._idle += 1

    def _run(self) -> None:
        try:
            while self._deliver_next():
                pass
        finally:
            with self._lock:
                if self._threads == 1:
                    # The last one out says QUIT to those who were kept for the next message.
                    self._relay.close()
                    self._shard.finish()
                self._threads -= 1

    def _deliver_next(self) -> bool:
        """Wait for a message and do what is to be done; False when this thread is to end."""
        try:
            unit = self._next_unit()
        except Exception as error:
            # A queue that cannot be read now is looked at again: somebody has to wait.
            self._log.bug("deliverer-bug", error)
            time.sleep(_ROUND)
            return not self._draining
        if unit is None:
            return False
        self._make_way()
        while unit is not None:
            self._attempt(unit)
            unit = self._lines.next_after(unit)
        return self._wait_again()

    def _next_unit(self) -> Unit | None:
        """The next message that may be tried; None when there is to be no more."""
        shard = self._shard
        while not self._draining:
            now = self._wall_clock()
            unit = shard.due(now)
            if unit is None:
                shard.hear()
            elif self._may_be_tried(unit):
                if shard.is_due(now):
                    shard.call()
                return unit
        # All who wait are to end, and are called one by one.
        shard.call()
        return None

    def _may_be_tried(self, unit: Unit) -> bool:
        """Whether there may be an attempt just now; if not, the unit waits in its place."""
        if unit.wish is Wish.BOUNCE:
            return True  # there is to be none
        if unit.wish is Wish.RETRY:
            self._relay.ask(unit.domain, self._on_the_clock(unit.due))
        if self._lines.join(unit):
            return False
        held = self._relay.look(unit.domain)
        if held is not None:
            self._give_back(unit, held)
        return held is None

    def _give_back(self, unit: Unit, held: Held | None) -> None:
        """Return a unit untried, until it is no longer held, or for now."""
        now = self._wall_clock()
        self._shard.put_off(unit, self._on_the_wall(held.until) if held is not None else now)

    def _keep_time(self) -> None:
        while not self._draining:
            try:
                self._tidy()
                self._shard.keep_time(_ROUND)
            except Exception as error:
                self._log.bug("deliverer-bug", error)
                time.sleep(_ROUND)

    def _tidy(self) -> None:
        now = self._clock()
        if now - self._tidied >= _ROUND:
            self._tidied = now
            self._relay.tidy()
            held = self._relay.held()
            if held != self._published:
                self._published = held
                self._publish(
                    [Resting(key, self._on_the_wall(each.until), each.reason) for key, each in held]
                )

    def _make_way(self) -> None:
        """See that another thread waits, unless there are as many as may be."""
        with self._lock:
            self._idle -= 1
            if self._idle == 0 and self._threads < self._most and not self._draining:
                try:
                    self._start_thread()
                except RuntimeError as error:
                    self._log.event("threads-scarce", reason=str(error), threads=self._threads)

    def _wait_again(self) -> bool:
        with self._lock:
            if self._idle >= _SPARE:
                return False
            self._idle += 1
            return True

    # -- one message

    def _attempt(self, unit: Unit) -> None:
        """Do for a message what is to be done now. Never raises."""
        try:
            lease = self._shard.claim(unit)
            if lease is not None:
                with lease:
                    self._work(lease)
        except DeliveryFailure as failure:
            self._log.event("queue-failed", domain=unit.domain, reason=str(failure))
        except OSError as error:
            self._log.event("queue-failed", domain=unit.domain, reason=str(error))
        except Exception as error:
            self._log.bug("deliverer-bug", error, domain=unit.domain)

    def _work(self, lease: Lease) -> None:
        try:
            # Whoever died between an outcome and its notice left this to us.
            self._notices.tell(lease, now=self._wall_clock())
            if not lease.ended:
                self._deliver(lease)
        except DeliveryFailure as failure:
            # Our own disk is full or broken; nothing is wrong with the message.
            self._log.event("queue-failed", id=lease.entry.id, reason=str(failure))
            lease.release(self._wall_clock() + _TROUBLE, reason=failure.text)

    def _deliver(self, lease: Lease) -> None:
        entry = lease.entry
        pending, recipients = [], []
        for number, addressee in enumerate(entry.addressees):
            if addressee.pending:
                pending.append(number)
                recipients.append(addressee.recipient)
        report = self._relay.deliver(
            Mail(
                entry.id,
                entry.domain,
                entry.envelope,
                recipients,
                lease.body,
                entry.eight_bit,
                entry.long_lines,
            )
        )
        if report.held is not None:
            lease.release(self._on_the_wall(report.held.until), reason=report.held.reason)
            return
        now = self._wall_clock()
        outcomes = dict(zip(pending, report.outcomes, strict=True))
        again = None
        if not all(outcome.is_final for outcome in report.outcomes):
            again = self._next_attempt(entry, now)
            if again is None:
                outcomes = {number: _given_up(outcome) for number, outcome in outcomes.items()}
        owed = self._notices.owed(entry, outcomes)
        lease.record(outcomes, owed=owed)
        self._log_outcomes(entry, outcomes, owed, again=again, now=now)
        if lease.ended:
            return
        self._notices.tell(lease, now=now)
        if again is not None and not lease.ended:
            self._notices.tell_delay(lease, now=now)
            lease.release(again)

    def _next_attempt(self, entry: Entry, now: float) -> float | None:
        """When an attempt is to follow the one that was made; None when it is given up."""
        return self._schedule.next_attempt(
            entry.queued_at,
            entry.attempts + 1,
            now=now,
            null_path=entry.envelope.reverse_path is None,
        )

    def _log_outcomes(
        self,
        entry: Entry,
        outcomes: dict[int, Outcome],
        owed: set[int],
        *,
        again: float | None,
        now: float,
    ) -> None:
        for number, outcome in outcomes.items():
            failed = outcome.kind is Kind.FAILED
            self._delivered += outcome.kind is Kind.DELIVERED
            self._log.event(
                outcome.kind,
                id=entry.id,
                sender=str(entry.envelope.reverse_path or ""),
                recipient=str(entry.addressees[number].recipient.mailbox),
                host=outcome.host,
                address=outcome.address,
                tls=outcome.tls,
                status=str(outcome.status),
                said=outcome.text,
                attempt=entry.attempts + 1,
                seconds=round(now - entry.queued_at, 3),
                again=None if again is None or outcome.is_final else round(again - now),
                told=number in owed if failed else None,
            )

    def _on_the_wall(self, until: float) -> float:
        """A time of the relay's clock, on the queue's."""
        return self._wall_clock() + max(until - self._clock(), 0.0)

    def _on_the_clock(self, when: float) -> float:
        """A time of the queue's, which is past, on the relay's clock."""
        return self._clock() - max(self._wall_clock() - when, 0.0)


def _given_up(outcome: Outcome) -> Outcome:
    """What was deferred once too often has failed; what was said last remains."""
    if outcome.is_final:
        return outcome
    return replace(outcome, kind=Kind.FAILED, status=_EXPIRED)
