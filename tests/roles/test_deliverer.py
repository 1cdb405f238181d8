"""What the deliverer does with a message: a queue in memory, a relay that says what it is told."""

from __future__ import annotations

import email
import email.message
import email.policy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pfsmtp.config import Schedule as Settings
from pfsmtp.delivery.relay import Report
from pfsmtp.delivery.relay.backoff import Held
from pfsmtp.delivery.relay.form import Unit as Mail
from pfsmtp.log import Log
from pfsmtp.mailqueue.entry import Selection, View, Wish
from pfsmtp.mailqueue.resting import Resting
from pfsmtp.mailqueue.schedule import Schedule
from pfsmtp.process.service import Context
from pfsmtp.roles.deliverer import Deliverer
from pfsmtp.roles.notices import Notices
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Notify, Recipient
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status
from tests.mailqueue.memory import MemoryQueue
from tests.running.program import eventually

HOUR = 3600.0
MESSAGE = b"Subject: hello\r\nMessage-ID: <1@example.net>\r\n\r\nIt works.\r\n"

delivered = Outcome(Kind.DELIVERED, Status(2, 0, 0), "250 taken", "mx.example.org", command="DATA")
later = Outcome(Kind.DEFERRED, Status(4, 2, 1), "450 busy", "mx.example.org", command="RCPT")
refused = Outcome(Kind.FAILED, Status(5, 1, 1), "550 who?", "mx.example.org", command="RCPT")
passed_on = Outcome(
    Kind.DELIVERED, Status(2, 0, 0), "250 taken", "mx.example.org", command="DATA", notifies=True
)


@dataclass
class FakeRelay:
    """Says of each recipient what `says` has for it; holds what is in `holds`."""

    says: dict[str, Outcome] = field(default_factory=dict)
    holds: dict[str, Held] = field(default_factory=dict)
    looks: dict[str, Held] = field(default_factory=dict)
    rooms: dict[str, int] = field(default_factory=dict)
    mails: list[Mail] = field(default_factory=list)
    asked: list[tuple[str, float]] = field(default_factory=list)

    def ask(self, domain: str, asked: float) -> None:
        self.asked.append((domain, asked))

    def held(self) -> list[tuple[str, Held]]:
        return list(self.looks.items())

    def look(self, domain: str) -> Held | None:
        return self.looks.get(domain)

    def destination(self, domain: str) -> str:
        return domain

    def room(self, destination: str) -> int:
        return self.rooms.get(destination, 20)

    def deliver(self, unit: Mail) -> Report:
        self.mails.append(unit)
        if unit.domain in self.holds:
            return Report(held=self.holds[unit.domain])
        said = [self.says.get(str(each.mailbox), delivered) for each in unit.recipients]
        return Report(outcomes=said)

    def tidy(self) -> None:
        pass

    def close(self) -> None:
        pass


class Room:
    """A deliverer with its clock, queue and relay; `work` does all that is due."""

    def __init__(self, log_path: Path, *, postmaster: Mailbox | None = None) -> None:
        self.now = 1_000_000.0
        self.queue = MemoryQueue(deliverers=1, clock=lambda: self.now)
        self.relay = FakeRelay()
        self.published: list[list[Resting]] = []
        self.log_path = log_path
        log = Log(log_path)
        schedule = Schedule(Settings(), random=lambda: 0.5)
        self.shard = self.queue.shard(0)
        self.deliverer = Deliverer(
            Context("deliverer", 0, 1, 1),
            self.shard,
            self.relay,  # type: ignore[arg-type]
            schedule=schedule,
            notices=Notices("out.example.com", postmaster, schedule, log, bytes),
            most=10,
            publish=self.published.append,
            log=log,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
        )

    def put(
        self,
        *recipients: str,
        sender: str | None = "me@example.com",
        notify: frozenset[Notify] = frozenset(),
    ) -> None:
        reverse_path = Mailbox(*sender.split("@")) if sender else None
        envelope = Envelope(
            reverse_path,
            tuple(Recipient(Mailbox(*each.split("@")), notify) for each in recipients),
        )
        intake = self.queue.begin(envelope)
        intake.write(MESSAGE)
        intake.commit()

    def work(self) -> None:
        while (unit := self.shard.due(self.now)) is not None:
            self.deliverer._attempt(unit)

    def views(self) -> list[View]:
        return list(self.queue.views(Selection()))

    def notices(self) -> list[tuple[Envelope, email.message.EmailMessage]]:
        """What was handed on from the null path, read."""
        return [
            (
                mail.envelope,
                email.message_from_bytes(
                    b"".join(mail.content.pieces()), policy=email.policy.default
                ),
            )
            for mail in self.relay.mails
            if mail.envelope.reverse_path is None
        ]


@pytest.fixture
def make_room(tmp_path: Path) -> Callable[..., Room]:
    def make(**options: Mailbox | None) -> Room:
        return Room(tmp_path / "log", **options)

    return make


@pytest.fixture
def room(make_room: Callable[..., Room]) -> Room:
    return make_room()


def test_message_that_was_taken_is_gone(room: Room) -> None:
    room.put("a@example.org", "b@example.net")
    room.work()
    assert [mail.domain for mail in room.relay.mails] == ["example.org", "example.net"]
    assert room.views() == []
    assert room.notices() == []


def test_message_that_is_deferred_is_tried_again_on_schedule(room: Room) -> None:
    room.relay.says["a@example.org"] = later
    room.put("a@example.org")
    for wait in (300, 600, 1200, 2400, 3600, 3600):
        room.work()
        (view,) = room.views()
        assert view.next_attempt == room.now + wait
        room.now = view.next_attempt - 1
        room.work()
        room.now += 1
    room.relay.says.clear()
    room.work()
    assert room.views() == []


def test_o2_each_recipient_ends_in_one_outcome_and_none_is_asked_for_again(room: Room) -> None:
    room.relay.says = {"b@example.org": later, "c@example.org": refused}
    room.put("a@example.org", "b@example.org", "c@example.org")
    room.work()
    room.relay.says.clear()
    room.now += HOUR
    room.work()
    asked = [
        str(each.mailbox)
        for mail in room.relay.mails
        if mail.envelope.reverse_path
        for each in mail.recipients
    ]
    assert asked == ["a@example.org", "b@example.org", "c@example.org", "b@example.org"]


def test_failure_is_told_to_the_sender_once_with_what_was_said(room: Room) -> None:
    room.relay.says["c@example.org"] = refused
    room.put("a@example.org", "c@example.org")
    room.work()
    ((envelope, notice),) = room.notices()
    assert [str(each.mailbox) for each in envelope.recipients] == ["me@example.com"]
    assert notice.get_content_type() == "multipart/report"
    text = notice.as_string()
    assert "550 who?" in text
    assert "c@example.org" in text
    assert "a@example.org" not in text
    assert room.views() == []


def test_o5_bounce_that_fails_is_not_bounced(room: Room) -> None:
    room.relay.says["x@example.org"] = refused
    room.put("x@example.org", sender=None)
    room.work()
    assert room.views() == []
    assert len(room.relay.mails) == 1
    assert "event=failed" in room.log_path.read_text()


def test_bounce_that_fails_goes_to_the_postmaster_and_no_further(
    make_room: Callable[..., Room],
) -> None:
    room = make_room(postmaster=Mailbox("postmaster", "example.com"))
    room.relay.says = {"x@example.org": refused, "postmaster@example.com": refused}
    room.put("x@example.org", sender=None)
    room.work()
    assert [str(mail.recipients[0].mailbox) for mail in room.relay.mails] == [
        "x@example.org",
        "postmaster@example.com",
    ]
    assert room.views() == []


def test_message_that_expires_fails_and_the_sender_is_told_what_was_said_last(room: Room) -> None:
    room.relay.says["a@example.org"] = later
    room.put("a@example.org")
    while room.views() and room.now < 1_000_000 + 6 * 24 * HOUR:
        room.work()
        room.now += HOUR
    assert room.now - 1_000_000 >= 5 * 24 * HOUR
    _, notice = room.notices()[-1]
    assert "450 busy" in notice.as_string()
    assert "Action: failed" in notice.as_string()
    assert "Status: 5.4.7" in notice.as_string()


def test_delay_is_told_once_after_four_hours(room: Room) -> None:
    room.relay.says["a@example.org"] = later
    room.put("a@example.org")
    for _ in range(40):
        room.work()
        room.now += HOUR / 2
    ((_, notice),) = room.notices()
    assert "Action: delayed" in notice.as_string()
    assert "Will-Retry-Until" in notice.as_string()


@pytest.mark.parametrize(
    ("wish", "outcome", "told"),
    [
        ("SUCCESS", delivered, "Action: relayed"),
        ("SUCCESS", passed_on, ""),
        ("SUCCESS", refused, ""),
        ("FAILURE", refused, "Action: failed"),
        ("FAILURE", delivered, ""),
        ("NEVER", refused, ""),
    ],
)
def test_rfc3461_4_1_notify_says_what_the_sender_is_told(
    room: Room, wish: Notify, outcome: Outcome, told: str
) -> None:
    room.relay.says["a@example.org"] = outcome
    room.put("a@example.org", notify=frozenset((wish,)))
    room.work()
    texts = [notice.as_string() for _, notice in room.notices()]
    assert (told in texts[0]) if told else texts == []


def test_destination_that_is_held_costs_no_claim_and_waits(room: Room) -> None:
    room.relay.looks["example.org"] = Held(room.now + 60, "back-off")
    room.put("a@example.org")
    room.put("a@example.net")
    unit = room.deliverer._next_unit()
    assert unit is not None
    assert unit.domain == "example.net"
    room.shard.put_off(unit, room.now)
    room.now += 61
    room.relay.looks.clear()
    room.work()
    assert {mail.domain for mail in room.relay.mails} == {"example.org", "example.net"}


def test_attempt_that_was_not_made_says_why_it_waits(room: Room) -> None:
    room.relay.holds["example.org"] = Held(room.now + 60, "the host fails")
    room.put("a@example.org")
    room.work()
    (view,) = room.views()
    assert view.reason == "the host fails"
    assert view.next_attempt == room.now + 60


def test_o8_message_deleted_before_its_attempt_is_not_tried(room: Room) -> None:
    room.put("a@example.org")
    room.queue.carry_out(Wish.DELETE, Selection())
    room.work()
    assert room.relay.mails == []


def test_message_bounced_by_the_operator_is_told_to_its_sender(room: Room) -> None:
    room.relay.says["a@example.org"] = later
    room.put("a@example.org")
    room.work()
    room.queue.carry_out(Wish.BOUNCE, Selection())
    room.work()
    ((_, notice),) = room.notices()
    assert "Action: failed" in notice.as_string()
    assert room.views() == []


def test_retry_asks_the_relay_to_try_whom_it_leaves_alone(room: Room) -> None:
    room.relay.says["a@example.org"] = later
    room.put("a@example.org")
    room.work()
    room.now += 10
    room.queue.carry_out(Wish.RETRY, Selection())
    room.now += 5
    unit = room.deliverer._next_unit()
    assert unit is not None
    assert room.relay.asked == [("example.org", room.now - 5)]
    room.shard.put_off(unit, room.now)
    assert room.deliverer._next_unit() is not None
    assert len(room.relay.asked) == 1


def test_o6_relay_may_still_say_that_it_has_failed_since(room: Room) -> None:
    room.put("a@example.org")
    room.queue.carry_out(Wish.RETRY, Selection())
    room.put("a@example.net")
    room.relay.looks["example.org"] = Held(room.now + 60, "back-off")
    unit = room.deliverer._next_unit()
    assert unit is not None
    assert unit.domain == "example.net"


def test_destinations_that_are_left_alone_are_told_when_they_change(room: Room) -> None:
    room.deliverer._tidy()
    room.relay.looks["example.org"] = Held(room.now + 60, "connection refused")
    for _ in range(3):
        room.now += 1
        room.deliverer._tidy()
    room.relay.looks.clear()
    room.now += 1
    room.deliverer._tidy()
    told = Resting("example.org", room.now + 56, "connection refused")
    assert room.published == [[], [told], []]


def test_bounce_waits_for_no_host(room: Room) -> None:
    room.relay.says["a@example.org"] = later
    room.put("a@example.org")
    room.work()
    room.relay.looks["example.org"] = Held(room.now + HOUR, "back-off")
    room.queue.carry_out(Wish.BOUNCE, Selection())
    unit = room.deliverer._next_unit()
    assert unit is not None
    room.deliverer._attempt(unit)
    assert [view.entry.domain for view in room.views()] == ["example.com"]


@pytest.mark.parametrize(
    ("sender", "notify"),
    [(None, frozenset()), ("me@example.com", frozenset(("NEVER",)))],
    ids=["notice", "NOTIFY=NEVER"],
)
def test_o5_bounce_that_nobody_is_to_be_told_of_is_logged_and_gone(
    room: Room, sender: str | None, notify: frozenset[Notify]
) -> None:
    room.relay.says["a@example.org"] = later
    room.put("a@example.org", sender=sender, notify=notify)
    room.work()
    room.queue.carry_out(Wish.BOUNCE, Selection())
    room.work()
    assert room.views() == []
    assert len(room.relay.mails) == 1
    assert "event=notice-forgone" in room.log_path.read_text()
    assert "bug" not in room.log_path.read_text()


def test_bug_in_an_attempt_costs_neither_the_thread_nor_the_message(room: Room) -> None:
    def broken(unit: Mail) -> Report:
        raise ZeroDivisionError

    room.relay.deliver = broken  # type: ignore[method-assign]
    room.put("a@example.org")
    room.work()
    assert "deliverer-bug" in room.log_path.read_text()
    assert len(room.views()) == 1


def test_threads_deliver_what_is_put_and_end_when_drained(room: Room) -> None:
    room.deliverer.start()
    for number in range(20):
        room.put(f"u{number}@example{number}.org")
    eventually(lambda: len(room.relay.mails) == 20)
    room.deliverer.drain()
    eventually(room.deliverer.finished)


def test_what_falls_due_at_the_same_time_is_tried_at_the_same_time(room: Room) -> None:
    together = threading.Barrier(5)
    deliver = room.relay.deliver

    def wait_for_the_others(unit: Mail) -> Report:
        together.wait(10)
        return deliver(unit)

    def put_five() -> None:
        for number in range(5):
            room.put(f"u@example{number}.org")
            room.queue.news.acquire()  # nobody has heard of it: it was there, and is due now

    room.relay.deliver = wait_for_the_others  # type: ignore[method-assign]
    room.shard.keep_time = lambda timeout: time.sleep(0.01)  # type: ignore[method-assign]
    put_five()
    room.deliverer.start()
    eventually(lambda: len(room.relay.mails) == 5)
    # As many threads wait now, and one of them is called.
    eventually(lambda: room.deliverer.title().startswith("0 attempts"))
    put_five()
    room.shard.call()
    eventually(lambda: len(room.relay.mails) == 10)
    room.deliverer.drain()
    eventually(room.deliverer.finished)


def test_thread_goes_on_with_those_in_line_for_the_same_destination(room: Room) -> None:
    room.put("first@example.org")
    first = room.deliverer._next_unit()
    assert first is not None
    for recipient in ("a@example.org", "b@example.org", "c@example.net"):
        room.put(recipient)
    room.relay.rooms["example.org"] = 0
    other = room.deliverer._next_unit()
    assert other is not None
    assert other.domain == "example.net"
    room.relay.rooms["example.org"] = 1
    units = iter((first, None))
    room.deliverer._next_unit = lambda: next(units)  # type: ignore[method-assign]
    assert room.deliverer._deliver_next()
    asked = [str(mail.recipients[0].mailbox) for mail in room.relay.mails]
    assert asked == ["first@example.org", "a@example.org", "b@example.org"]


def test_drain_gives_back_who_stands_in_line(room: Room) -> None:
    room.relay.rooms["example.org"] = 0
    room.put("a@example.org")
    room.put("b@example.net")
    assert room.deliverer._next_unit() is not None
    room.deliverer.drain()
    assert [unit.domain for unit in room.queue.units if not unit.out] == ["example.org"]
