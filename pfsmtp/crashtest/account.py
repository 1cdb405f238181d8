"""What has become of every message: what was promised is held against what was found.

Inbound: every copy that was promised is there once. Outbound: every recipient is in exactly one of
three ends: delivered, reported to the sender as failed, or in the queue still.

A copy more than that is a duplicate. There may be one only where the remote took a message, and
whoever had sent it died, or the link was lost, before that was noted down; then nobody could know.
So it is excused if the log does not say that the first delivery was done, and the connection was
lost, or somebody was killed between the two, or the remote had hung up in place of its reply.

What was neither acknowledged nor refused may be there or not: the server was killed, perhaps right
before its 250.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pfsmtp.crashtest.ledger import Answer, Ledger, Sent
from pfsmtp.crashtest.remote import Arrival, Report

Key = tuple[int, str]
"""A message by its number, and one of its recipients."""

_LAG = 30.0
"""Seconds after the death of a client within which a host, if busy, sees what it had sent."""


@dataclass(slots=True)
class Account:
    """Figures in the order to show them, and a sentence for everything that must not be."""

    figures: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is in the queue when the server has stopped."""

    pending: frozenset[Key] = frozenset()
    failed: frozenset[Key] = frozenset()  # whose report is in the queue, or is still to be made


@dataclass(slots=True)
class _Tally:
    """What both accounts count."""

    faults: list[str]
    missing: int = 0
    unanswered: int = 0
    unanswered_there: int = 0

    def judge(self, sent: Sent, recipient: str, ends: Sequence[str]) -> bool:
        """See whether a recipient's ends are what was answered; whether there is any end."""
        what = f"message {sent.number} for {recipient}"
        match sent.answer:
            case Answer.ACKNOWLEDGED if not ends:
                self.missing += 1
                self.faults.append(f"{what} was acknowledged, and is missing")
            case Answer.REFUSED if ends:
                self.faults.append(f"{what} was refused, and is {' and '.join(ends)}")
            case Answer.NONE:
                self.unanswered += 1
                self.unanswered_there += bool(ends)
        return bool(ends)


def of_inbound(ledger: Ledger, arrivals: Iterable[Arrival], faults: Sequence[str]) -> Account:
    """Account for mail that was sent to Maildirs; `faults` are what is wrong with files there."""
    copies = Counter((arrival.number, arrival.recipient) for arrival in arrivals)
    tally = _Tally(list(faults))
    found = duplicates = 0
    for sent in ledger:
        for recipient in sent.recipients:
            count = copies.pop((sent.number, recipient), 0)
            tally.judge(sent, recipient, ["there"] if count else [])
            found += sent.answer is Answer.ACKNOWLEDGED and count > 0
            if count > 1:
                duplicates += count - 1
                tally.faults.append(f"message {sent.number} is there {count} times for {recipient}")
    tally.faults += _strays(copies)
    figures = _of_ledger(ledger) | {
        "found": found,
        "missing": tally.missing,
        "duplicated": duplicates,
        "partial": len(faults),
        "unanswered": tally.unanswered,
        "unanswered_but_there": tally.unanswered_there,
    }
    return Account(figures, tally.faults)


class OutboundAccounts:
    """Accounts for mail that was relayed to a remote."""

    def __init__(
        self,
        ledger: Ledger,
        arrivals: Iterable[Arrival],
        reports: Iterable[Report],
        *,
        waiting: Waiting,
        deaths: Sequence[float],
    ) -> None:
        """`deaths` are when somebody was killed who may have had a delivery, in Unix seconds."""
        self._ledger = ledger
        self._arrivals: dict[Key, list[Arrival]] = defaultdict(list)
        self._reports: dict[Key, list[Report]] = defaultdict(list)
        self._waiting = waiting
        self._deaths = deaths
        self._after_kills = self._after_hang_ups = self._duplicates = 0
        for arrival in sorted(arrivals, key=lambda each: each.at):
            self._arrivals[arrival.number, arrival.recipient].append(arrival)
        for report in sorted(reports, key=lambda each: each.at):
            for recipient in report.recipients:
                self._reports[report.number, recipient].append(report)

    def suspects(self) -> frozenset[int]:
        """The messages about which the log is to be asked."""
        twice = {key for key, found in self._arrivals.items() if len(found) > 1}
        return frozenset(
            number for number, _ in twice | self._waiting.pending & set(self._arrivals)
        )

    def close(self, delivered: Mapping[Key, Sequence[float]], faults: Sequence[str]) -> Account:
        """`delivered` is when the log says that deliveries were done; `faults` of the remote."""
        tally = _Tally(list(faults))
        ends: Counter[str] = Counter()
        known = set()
        for sent in self._ledger:
            for recipient in sent.recipients:
                key = (sent.number, recipient)
                known.add(key)
                found = self._ends_of(key)
                if tally.judge(sent, recipient, found):
                    ends.update(found[:1] if sent.answer is Answer.ACKNOWLEDGED else ())
                    self._look_for_duplicates(key, found, delivered.get(key, ()), tally.faults)
        there = {*self._arrivals, *self._reports, *self._waiting.pending, *self._waiting.failed}
        tally.faults += _strays(there - known)
        figures = _of_ledger(self._ledger) | {
            "delivered": ends["delivered"],
            "bounced": ends["bounced"],
            "queued": ends["queued"],
            "missing": tally.missing,
            "duplicated": self._duplicates,
            "duplicated_after_a_kill": self._after_kills,
            "duplicated_after_a_hang_up": self._after_hang_ups,
            "partial": len(faults),
            "unanswered": tally.unanswered,
            "unanswered_but_there": tally.unanswered_there,
        }
        return Account(figures, tally.faults)

    def _ends_of(self, key: Key) -> list[str]:
        waiting = self._waiting
        ends = {
            "delivered": key in self._arrivals,
            "bounced": key in self._reports or key in waiting.failed,
            "queued": key in waiting.pending,
        }
        return [end for end, reached in ends.items() if reached]

    def _look_for_duplicates(
        self, key: Key, ends: Sequence[str], delivered: Sequence[float], faults: list[str]
    ) -> None:
        """Count what is there more than once, and see whether it is excused."""
        number, recipient = key
        what = f"message {number} for {recipient}"
        arrivals = self._arrivals.get(key, [])
        again = [arrival.at for arrival in arrivals[1:]]
        if "queued" in ends and arrivals:
            again.append(float("inf"))  # it would have been sent once more
        for before, at in zip(arrivals, again, strict=False):
            # Times are noted to a millisecond below: one more, and it was surely before then.
            noted = len(delivered) > 1 or any(when + 0.001 <= at for when in delivered)
            if not noted and before.unanswered:
                self._after_hang_ups += 1
            elif not noted and (before.cut or self._somebody_died(before.at, at)):
                self._after_kills += 1
            else:
                self._duplicates += 1
                faults.append(f"{what} was delivered, and once more without need")
        if "bounced" in ends and len(ends) > 1:
            faults.append(f"{what} is {' and '.join(ends)}")
        self._look_for_reports(what, self._reports.get(key, []), faults)

    def _look_for_reports(self, what: str, reports: Sequence[Report], faults: list[str]) -> None:
        for before, report in pairwise(reports):
            if report.id == before.id and self._somebody_died(before.at, report.at):
                self._after_kills += 1
            else:
                self._duplicates += 1
                faults.append(f"the failure of {what} was reported twice")

    def _somebody_died(self, since: float, until: float) -> bool:
        return any(since - _LAG <= death <= until for death in self._deaths)


def _of_ledger(ledger: Ledger) -> dict[str, int]:
    return {
        "sent": len(ledger),
        "acknowledged": ledger.acknowledged,
        "acknowledged_recipients": ledger.promised,
        "refused": ledger.refused,
    }


def _strays(keys: Iterable[Key]) -> list[str]:
    return [
        f"message {number} is there for {recipient}, to whom it was not sent"
        for number, recipient in sorted(keys)
    ]
