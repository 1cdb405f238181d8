"""Tells senders what became of their mail: whether, whom, and by a notice put into the queue.

What a notice looks like is `message.dsn`'s; that it is sent exactly once, the queue's. A message
from the null path is never answered (RFC 5321 §4.5.5): when it fails, the configured postmaster
hears of it, or nobody but the log does. DSN wishes: RFC 3461 §4.1, §5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pfsmtp.log import Log
from pfsmtp.mailqueue.backend import Lease
from pfsmtp.mailqueue.entry import Addressee, Entry
from pfsmtp.mailqueue.schedule import Schedule
from pfsmtp.message import dsn
from pfsmtp.message.header import HEADER_LIMIT
from pfsmtp.message.report import Action, RecipientReport, Report
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client.transaction import Content
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.ports import Receipt


@dataclass(frozen=True, slots=True)
class Notices:
    """Shared by the threads of a deliverer; `random` gives so many random octets."""

    hostname: str
    postmaster: Mailbox | None
    schedule: Schedule
    log: Log
    random: Callable[[int], bytes]

    def owed(self, entry: Entry, outcomes: Mapping[int, Outcome]) -> set[int]:
        """To which recipients' outcomes a notice is due, by their number."""
        if self._reader(entry) is None:
            return set()
        return {
            number
            for number, outcome in outcomes.items()
            if (action := _action(outcome)) is not None
            and self._wanted(entry, entry.addressees[number], action)
        }

    def tell(self, lease: Lease, *, now: float) -> None:
        """Send what is owed. Raises DeliveryFailure, and it stays owed."""
        entry = lease.entry
        owed = {}
        for number, each in enumerate(entry.addressees):
            if each.owed and each.outcome is not None:
                owed[number] = each.outcome
        if not owed:
            return
        wanted = sorted(self.owed(entry, owed))
        if wanted:
            reports = [_report(entry.addressees[number], entry) for number in wanted]
            self._put(lease, reports, about=wanted, now=now)
        if len(wanted) < len(owed):
            self._forgo(lease, {n: outcome for n, outcome in owed.items() if n not in wanted})

    def tell_delay(self, lease: Lease, *, now: float) -> None:
        """Send the one notice that it takes longer, if it is time. Raises DeliveryFailure."""
        entry = lease.entry
        sender = entry.envelope.reverse_path
        due = self.schedule.delay_is_due(
            entry.queued_at, now=now, reported=entry.delay_reported, null_path=sender is None
        )
        late = [
            each
            for each in entry.addressees
            if each.pending and each.outcome and dsn.is_wanted(each.recipient, "delayed")
        ]
        if not due or not late:
            return
        until = self.schedule.expires_at(entry.queued_at)
        reports = [_report(each, entry, action="delayed", retry_until=until) for each in late]
        self._put(lease, reports, about=(), now=now)

    def _forgo(self, lease: Lease, outcomes: Mapping[int, Outcome]) -> None:
        """The operator has given these up, and nobody is there, or wants, to be told."""
        addressees = lease.entry.addressees
        self.log.event(
            "notice-forgone",
            about=lease.entry.id,
            recipients=[str(addressees[number].recipient.mailbox) for number in outcomes],
        )
        lease.record(outcomes)

    def _reader(self, entry: Entry) -> Mailbox | None:
        """Who is told: the sender; of a notice that cannot be delivered, the postmaster."""
        if entry.envelope.reverse_path is not None:
            return entry.envelope.reverse_path
        recipients = {str(each.recipient.mailbox).lower() for each in entry.addressees}
        if self.postmaster is None or str(self.postmaster).lower() in recipients:
            return None
        return self.postmaster

    def _wanted(self, entry: Entry, addressee: Addressee, action: Action) -> bool:
        if entry.envelope.reverse_path is None:
            return action == "failed"
        return dsn.is_wanted(addressee.recipient, action)

    def _put(
        self, lease: Lease, reports: list[RecipientReport], *, about: Iterable[int], now: float
    ) -> None:
        entry = lease.entry
        reader = self._reader(entry)
        assert reader is not None
        report = Report(reader, self.hostname, entry.envelope, entry.queued_at, tuple(reports))
        whole = dsn.quotes_whole(report, entry.size)
        original = _octets(lease.body, entry.size if whole else HEADER_LIMIT)
        envelope, octets = dsn.compose(report, original, whole=whole, when=now, random=self.random)
        intake = lease.report(envelope, list(about))
        try:
            intake.write(octets)
            receipt: Receipt = intake.commit()
        except BaseException:
            intake.abort()
            raise
        self.log.event(
            "notice-queued",
            id=receipt.id,
            about=entry.id,
            to=str(reader),
            action=reports[0].action,
            recipients=[str(each.recipient.mailbox) for each in reports],
        )


def _action(outcome: Outcome) -> Action | None:
    """What a sender who wants to know is told of a final outcome."""
    match outcome.kind:
        case Kind.FAILED:
            return "failed"
        case Kind.DELIVERED:
            # RFC 3461 §5.2.2: a remote that knows DSN reports the delivery itself.
            return None if outcome.notifies else "relayed"
        case Kind.DEFERRED:
            return None


def _report(
    addressee: Addressee,
    entry: Entry,
    *,
    action: Action | None = None,
    retry_until: float | None = None,
) -> RecipientReport:
    outcome = addressee.outcome
    assert outcome is not None
    return RecipientReport(
        addressee.recipient,
        action or _action(outcome) or "failed",
        outcome.status,
        outcome.reason,
        remote=outcome.host or None,
        reply=outcome.reply,
        attempted=entry.tried_at,
        retry_until=retry_until,
    )


def _octets(content: Content, most: int) -> bytes:
    """The message, or its beginning of at least `most` octets."""
    octets = bytearray()
    for piece in content.pieces():
        octets += piece
        if len(octets) >= most:
            break
    return bytes(octets)
