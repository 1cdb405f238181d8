"""The remote host of the test: what it takes, what it refuses, and how it keeps count."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from pfsmtp.crashtest import sink as module
from pfsmtp.crashtest.dialogue import Dialogue, Lost, lines, stuffed
from pfsmtp.crashtest.message import Paper, compose
from pfsmtp.crashtest.remote import number_of, read_report
from pfsmtp.crashtest.sink import ADDRESSES, Sink, Treatment, treatment
from pfsmtp.crashtest.site import free_port
from pfsmtp.tls import client_context
from tests.certificates import make_pair
from tests.crashtest.reports import bounce
from tests.running.program import eventually

RUN = "0123abcd"
PAPER = Paper(Random(1))


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    pair = make_pair(tmp_path, "sink", names=["sink.crashtest.invalid"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with closing(Sink(free_port(Random(), ADDRESSES), RUN, context)) as sink:
        yield sink


def connect(sink: Sink, address: str = ADDRESSES[0]) -> Dialogue:
    dialogue = Dialogue((address, sink.port))
    assert dialogue.hear().code == 220
    assert dialogue.hello().code == 250
    return dialogue


def message(number: int = 7, size: int = 500) -> bytes:
    return compose(RUN, number, "a@b", PAPER.body(number, size, Random(number)))


def begin(dialogue: Dialogue, *recipients: str, number: int = 7) -> list[int]:
    """MAIL and RCPT; the codes of the replies to the latter."""
    assert dialogue.ask(f"MAIL FROM:<crashtest+{number}@[127.0.0.1]>").code == 250
    return [dialogue.ask(f"RCPT TO:<{recipient}>").code for recipient in recipients]


def send(dialogue: Dialogue, octets: bytes) -> int:
    assert dialogue.ask("DATA").code == 354
    dialogue.send(stuffed(octets))
    return dialogue.hear().code


@pytest.mark.parametrize("size", [200, 300_000])
def test_a_whole_message_arrives_for_each_of_its_recipients(sink: Sink, size: int) -> None:
    with closing(connect(sink)) as dialogue:
        assert begin(dialogue, "take.1@[127.0.0.1]", "take.2@[127.0.0.1]") == [250, 250]
        assert send(dialogue, message(size=size)) == 250
    assert [(each.number, each.recipient) for each in sink.arrivals] == [
        (7, "take.1@[127.0.0.1]"),
        (7, "take.2@[127.0.0.1]"),
    ]
    assert sink.faults == []


def test_commands_in_a_group_are_answered_in_order(sink: Sink) -> None:
    with closing(connect(sink)) as dialogue:
        group = ["MAIL FROM:<a@b>", "RCPT TO:<refuse.1@b>", "RCPT TO:<take.1@b>", "DATA"]
        dialogue.send(lines(group))
        assert [reply.code for reply in dialogue.hear_all(4)] == [250, 550, 250, 354]


def test_what_is_cut_or_changed_is_a_fault_and_no_arrival(sink: Sink) -> None:
    with closing(connect(sink)) as dialogue:
        for octets in (message()[:-100] + b"\r\n", message(8)):
            assert begin(dialogue, "take.1@b") == [250]
            send(dialogue, octets)
    assert sink.arrivals == []
    assert len(sink.faults) == 2


def test_what_breaks_off_before_its_end_is_neither(sink: Sink) -> None:
    with closing(connect(sink)) as dialogue:
        begin(dialogue, "take.1@b")
        dialogue.ask("DATA")
        dialogue.send(stuffed(message())[:-1])
    with closing(connect(sink)) as dialogue:
        begin(dialogue, "take.1@b")
        send(dialogue, message())
    assert len(sink.arrivals) == 1
    assert sink.faults == []


def test_recipients_are_treated_as_their_names_say(sink: Sink) -> None:
    everybody = ["take.1@b", "refuse.1@b", "never.1@b", "defer.1@b"]
    with closing(connect(sink)) as dialogue:
        assert begin(dialogue, *everybody) == [250, 550, 450, 450]
        dialogue.ask("RSET")
        assert begin(dialogue, *everybody) == [250, 550, 450, 250]
        dialogue.ask("RSET")
        assert begin(dialogue, *everybody, number=8) == [250, 550, 450, 450]


def test_who_leaves_takes_the_message_and_says_nothing_once(sink: Sink) -> None:
    with closing(connect(sink)) as dialogue:
        begin(dialogue, "leave.1@b")
        dialogue.ask("DATA")
        dialogue.send(stuffed(message()))
        with pytest.raises(Lost):
            dialogue.hear()
    with closing(connect(sink)) as dialogue:
        begin(dialogue, "leave.1@b")
        assert send(dialogue, message()) == 250
    assert [each.unanswered for each in sink.arrivals] == [True, False]


def test_a_connection_that_ends_without_a_quit_is_noted_with_what_came_by_it(sink: Sink) -> None:
    with closing(connect(sink)) as first, closing(connect(sink)) as second:
        begin(first, "take.1@b")
        send(first, message())
        begin(second, "take.2@b", number=8)
        send(second, message(8))
        assert first.ask("QUIT").code == 221
        second.close()
        eventually(lambda: sink.arrivals[1].cut)
        assert not sink.arrivals[0].cut


def test_who_waits_answers_later(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT", 0.3)
    with closing(connect(sink)) as dialogue:
        begin(dialogue, "wait.1@b")
        dialogue.ask("DATA")
        began = time.monotonic()
        dialogue.send(stuffed(message()))
        eventually(lambda: len(sink.arrivals) == 1)
        assert dialogue.hear().code == 250
        assert time.monotonic() - began > 0.25


def test_its_second_address_encrypts(sink: Sink) -> None:
    for address in ADDRESSES:
        with closing(connect(sink, address)) as dialogue:
            assert ("STARTTLS" in dialogue.offered) == (address == ADDRESSES[1])
    with closing(connect(sink, ADDRESSES[1])) as dialogue:
        assert dialogue.ask("STARTTLS").code == 220
        dialogue.secure(client_context(verify=False))
        dialogue.hello()
        assert "STARTTLS" not in dialogue.offered
        begin(dialogue, "take.1@b")
        assert send(dialogue, message()) == 250


def test_reports_are_read(sink: Sink) -> None:
    whole = bounce("refuse.1@[127.0.0.1]", "refuse.2@[127.0.0.1]", number=12)
    with closing(connect(sink)) as dialogue:
        for octets in (whole, whole[:-4] + b"\r\n"):
            assert dialogue.ask("MAIL FROM:<>").code == 250
            assert dialogue.ask("RCPT TO:<crashtest+12@[127.0.0.1]>").code == 250
            assert send(dialogue, octets) == 250
    (report,) = sink.reports
    assert report.number == 12
    assert report.recipients == ("refuse.1@[127.0.0.1]", "refuse.2@[127.0.0.1]")
    assert len(sink.faults) == 1


def test_each_report_has_an_id_of_its_own() -> None:
    made = [read_report(bounce("a@b"), 1, at=0.0) for _ in range(2)]
    assert made[0] is not None
    assert made[1] is not None
    assert made[0].id != made[1].id


def test_the_number_of_a_message_is_in_its_reverse_path(sink: Sink) -> None:
    assert number_of(sink.sender(0)) == 0
    assert number_of(sink.sender(123)) == 123
    assert number_of("somebody@b") is None


def test_every_treatment_is_picked_and_known_by_its_name(sink: Sink) -> None:
    random = Random(1)
    picked = {treatment(sink.pick(random)) for _ in range(2000)}
    assert picked == set(Treatment)
    assert treatment("crashtest+1@[127.0.0.1]") is Treatment.TAKE
    assert not sink.takes("never.1@b")
    assert sink.takes("refuse.1@b")


def test_closing_it_ends_its_connections(sink: Sink) -> None:
    with closing(connect(sink)) as dialogue:
        sink.close()
        with pytest.raises(Lost):
            dialogue.ask("NOOP")
    eventually(lambda: _refuses(sink))


def _refuses(sink: Sink) -> bool:
    try:
        Dialogue((ADDRESSES[0], sink.port)).close()
    except Lost:
        return True
    return False
