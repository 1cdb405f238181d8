"""One connection driven through one dialogue, on a scripted stream: budgets, draining, bugs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from pfsmtp.config import Limits, Octets, Seconds, SecondsOrOff
from pfsmtp.net.connection import Connection
from pfsmtp.net.stream import ClearStream, StreamLost, StreamTimeout
from pfsmtp.smtp.envelope import Encryption
from pfsmtp.smtp.ports import Peer
from pfsmtp.smtp.session import Server, Session
from pfsmtp.smtp.wire import Input
from tests.smtp.fakes import NO_LOG, FakeAccess, FakeStore

WAKE = 77
Step = tuple[float, bytes | None]


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class ScriptedStream(ClearStream):
    """Gives octets after so many seconds; None is the moment the wake descriptor is readable."""

    def __init__(self, clock: Clock, steps: list[Step]) -> None:
        self.clock = clock
        self.steps = steps
        self.heard = b""
        self.lingered: bool | None = None

    def exchange(self, octets: bytes, into: Input, wait: float, wake: int) -> int:
        self.heard += octets
        if not self.steps:
            return 0
        after, given = self.steps[0]
        if after > wait:
            self.clock.now += wait
            raise StreamTimeout
        self.clock.now += after
        self.steps.pop(0)
        if given is None:
            if wake != WAKE:
                return self.exchange(b"", into, wait - after, wake)
            return -1
        into.feed(given)
        return len(given)

    def send(self, octets: bytes, wait: float) -> None:
        self.heard += octets

    def is_readable(self, wait: float) -> bool:
        if not self.steps:
            return True  # the client is gone
        after, given = self.steps[0]
        self.steps[0] = (max(after - wait, 0.0), given)
        return after <= wait

    def close(self, octets: bytes = b"", *, linger: bool = False) -> None:
        self.heard += octets
        self.lingered = linger


class Served:
    """A connection that was served to its end, and what the client heard."""

    def __init__(
        self,
        *steps: Step,
        limits: Limits | None = None,
        store: FakeStore | None = None,
        loopback: bool = True,
        draining: bool = False,
    ) -> None:
        self.store = store or FakeStore()
        clock = Clock()
        self.stream = ScriptedStream(clock, list(steps))
        server = Server(
            "mx.example.org", limits or Limits(), FakeAccess(), self.store, NO_LOG, clock
        )
        peer = Peer("192.0.2.1", 4321, "192.0.2.25", loopback=loopback)
        self.slept: list[float] = []
        connection = Connection(
            self.stream,
            Session(server, peer, NO_LOG),
            wake=WAKE,
            tls=None,
            describe=_describe,
            sleep=self.slept.append,
        )
        if draining:
            connection.drain()
        connection.serve()
        self.seconds = clock.now - 1000.0

    @property
    def codes(self) -> list[str]:
        return [line[:3] for line in self.stream.heard.decode().splitlines()]


def _describe(_: ssl.SSLObject) -> Encryption:
    raise AssertionError("no TLS here")


def lines(*texts: str) -> list[Step]:
    return [(0.0, f"{text}\r\n".encode()) for text in texts]


BEGIN = lines("HELO c", "MAIL FROM:<a@example.net>", "RCPT TO:<alice@example.org>", "DATA")
BEGUN = ["220", "250", "250", "250", "354"]


def test_whole_dialogue_is_served() -> None:
    served = Served(*BEGIN, *lines("text", ".", "QUIT"))
    assert served.codes == [*BEGUN, "250", "221"]
    assert served.stream.lingered is False
    assert len(served.store.messages) == 1


def test_p5_command_that_comes_octet_by_octet_has_one_budget() -> None:
    steps: list[Step] = [(100.0, b"N"), (100.0, b"O"), (100.0, b"O"), (100.0, b"P")]
    served = Served(*steps, limits=Limits(command=Seconds(250)))
    assert served.codes == ["220", "421"]
    assert served.seconds == 250
    assert served.stream.lingered is True


def test_budget_begins_anew_with_each_reply() -> None:
    steps: list[Step] = [(200.0, b"NOOP\r\n")] * 4
    served = Served(*steps, limits=Limits(command=Seconds(250)))
    assert served.codes == ["220", "250", "250", "250", "250"]


def test_p5_session_has_a_total() -> None:
    steps: list[Step] = [(200.0, b"NOOP\r\n")] * 20
    served = Served(*steps, limits=Limits(session=Seconds(1000)))
    assert served.codes[-1] == "421"
    assert served.seconds == 1000


def test_p5_session_ends_even_if_the_client_never_pauses() -> None:
    steps: list[Step] = [*[(100.0, b"NOOP\r\n")] * 10, *[(0.0, b"NOOP\r\n")] * 5]
    served = Served(*steps, limits=Limits(session=Seconds(1000)))
    # The last command that came in time is answered.
    assert served.codes == ["220", *["250"] * 10, "421"]
    assert served.seconds == 1000


def test_p5_session_ends_within_a_message_that_never_pauses() -> None:
    text: list[Step] = [*[(100.0, 100_000 * b"x")] * 10, *[(0.0, b"x")] * 5]
    served = Served(*BEGIN, *text, limits=Limits(session=Seconds(1000)))
    assert served.codes == [*BEGUN, "421"]
    assert served.store.open == 0


def test_silence_within_data_ends_after_the_data_budget() -> None:
    served = Served(*BEGIN, (181.0, b"late\r\n"))
    assert served.codes == [*BEGUN, "421"]
    assert served.seconds == 180
    assert served.store.open == 0


def test_p5_message_that_comes_below_the_minimum_rate_is_cut_off() -> None:
    drip: list[Step] = [(10.0, b"x" * 50)] * 1000
    limits = Limits(minimum_rate=Octets(100), minimum_rate_after=Seconds(60), data=Seconds(20))
    served = Served(*BEGIN, *drip, limits=limits)
    assert served.codes == [*BEGUN, "421"]
    assert 50 <= served.seconds <= 70


def test_message_at_the_minimum_rate_is_taken() -> None:
    drip: list[Step] = [(10.0, b"x" * 1998 + b"\r\n")] * 50
    limits = Limits(minimum_rate=Octets(100), minimum_rate_after=Seconds(60))
    served = Served(*BEGIN, *drip, *lines("."), limits=limits)
    assert served.codes == [*BEGUN, "250"]


def test_rfc5321_3_1_client_that_speaks_before_the_greeting_is_refused() -> None:
    served = Served((0.5, b"EHLO c\r\n"), loopback=False)
    assert served.codes == ["554"]
    assert served.stream.lingered is True


def test_client_that_leaves_before_the_greeting_did_not_speak() -> None:
    assert Served(loopback=False).codes == ["220"]


def test_client_that_waits_is_greeted_and_loopback_need_not() -> None:
    assert Served((1.5, b"QUIT\r\n"), loopback=False).codes == ["220", "221"]
    assert Served((0.0, b"QUIT\r\n"), loopback=True).codes == ["220", "221"]
    limits = Limits(greeting_delay=SecondsOrOff(0))
    assert Served((0.0, b"QUIT\r\n"), limits=limits, loopback=False).codes == ["220", "221"]


def test_erring_client_is_slowed() -> None:
    served = Served(*lines("X", "X", "X"), limits=Limits(errors_slow=2, errors_close=9))
    assert served.slept == [1.0, 1.0]


def test_client_that_says_very_much_at_once_leaves_others_their_turn() -> None:
    noops = 250 * b"NOOP\r\n"
    served = Served((0.0, noops), (0.0, noops), limits=Limits(idle_commands=1000))
    assert served.codes == ["220"] + 500 * ["250"]
    assert len(served.slept) == 4
    assert all(0 < seconds < 0.1 for seconds in served.slept)
    recipients = [b"RCPT TO:<alice@example.org>\r\n" * 90] * 10
    served = Served(*BEGIN[:2], *((0.0, group) for group in recipients))
    assert served.codes == [*BEGUN[:3], *["250"] * 900]
    assert served.slept == []


def test_client_that_brings_no_mail_waits_long_within_a_group_too() -> None:
    limits = Limits(idle_commands=50, errors_slow=1)
    served = Served((0.0, 120 * b"NOOP\r\n"), limits=limits)
    assert served.codes == ["220"] + 69 * ["250"] + ["421"]
    limits = Limits(idle_commands=50, errors_slow=1, errors_close=100)
    served = Served((0.0, 120 * b"NOOP\r\n"), limits=limits)
    assert served.slept == [1.0, 1.0]


def test_command_budget_begins_anew_behind_a_group_without_a_rest() -> None:
    limits = Limits(command=Seconds(250), idle_commands=1000)
    served = Served((200.0, 100 * b"NOOP\r\n"), (200.0, b"NOOP\r\n"), limits=limits)
    assert served.codes == ["220"] + 101 * ["250"]


def test_drain_wakes_who_waits_between_transactions() -> None:
    served = Served(*BEGIN, *lines("."), (5.0, None))
    assert served.codes == [*BEGUN, "250"], "without draining, being woken just ends it"
    served = Served((5.0, None), draining=True)
    assert served.codes == ["220", "421"]
    assert served.stream.lingered is True


def test_drain_gives_who_has_just_connected_time_for_a_message() -> None:
    served = Served((0.0, None), *BEGIN, *lines("text", ".", "NOOP"), draining=True)
    assert served.codes == [*BEGUN, "250", "421"]
    served = Served((0.0, None), (3.0, b"NOOP\r\n"), draining=True)
    assert served.codes == ["220", "421"]


def test_drain_does_not_break_a_message_off() -> None:
    served = Served(*BEGIN, (1.0, None), *lines("text", ".", "QUIT"), draining=True)
    assert served.codes == [*BEGUN, "250", "221"]


def test_bug_is_answered_421_and_leaves_nothing_open() -> None:
    class Broken(FakeStore):
        def room_for(self, size: int) -> bool:
            raise ZeroDivisionError

    served = Served(*lines("EHLO c", "MAIL FROM:<a@example.net> SIZE=1"), store=Broken())
    assert served.codes[-1] == "421"
    assert served.stream.lingered is True


def test_client_that_leaves_within_a_message_leaves_nothing_open() -> None:
    served = Served(*BEGIN, *lines("text"))
    assert served.codes == BEGUN
    assert served.store.open == 0
    assert served.store.messages == []


def test_lost_connection_is_an_end_like_others() -> None:
    class Lost(ScriptedStream):
        def exchange(self, octets: bytes, into: Input, wait: float, wake: int) -> int:
            raise StreamLost("reset")

    clock = Clock()
    server = Server("mx", Limits(), FakeAccess(), FakeStore(), NO_LOG, clock)
    stream = Lost(clock, [])
    session = Session(server, Peer("192.0.2.1", 1, "192.0.2.25", loopback=True), NO_LOG)
    Connection(stream, session, wake=WAKE, tls=None, describe=_describe).serve()
    assert stream.lingered is False
