"""Maildirs under watch: whole copies are counted, and whatever else turns up is a fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from pfsmtp.crashtest.maildirs import REPORTS, Maildirs
from pfsmtp.crashtest.message import Paper, compose
from tests.crashtest.reports import bounce
from tests.running.program import eventually

RUN = "0123abcd"
NAME = "1700000000.M000123P1Q1R1.mx"


def stored(number: int = 1, recipient: str = "alice@crashtest.invalid", size: int = 500) -> bytes:
    """A message as it is in a Maildir."""
    body = Paper(Random(1)).body(number, size, Random(number))
    fields = b"Return-Path: <a@b>\nDelivered-To: %b\nReceived: now\n" % recipient.encode()
    return fields + compose(RUN, number, "a@b", body).replace(b"\r\n", b"\n")


class Box:
    """The Maildirs of alice and bob, and of those who get reports."""

    def __init__(self, base: Path) -> None:
        self.base = base
        for login in ("alice", "bob", REPORTS):
            for directory in ("tmp", "new", "cur"):
                (base / login / directory).mkdir(parents=True)

    def put(self, octets: bytes, *, login: str = "alice", name: str = NAME) -> Path:
        """Put a file into `new/` as a delivery does."""
        staged = self.base / login / "tmp" / name
        staged.write_bytes(octets)
        return staged.rename(self.base / login / "new" / name)

    def watch(self, *, space: int = 1 << 30) -> Maildirs:
        return Maildirs(self.base, ("alice", "bob", REPORTS), run=RUN, space=space)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def watched(box: Box) -> Iterator[Maildirs]:
    maildirs = box.watch()
    maildirs.start()
    with closing(maildirs):
        yield maildirs


def test_a_whole_message_is_an_arrival_at_the_time_in_its_name(box: Box) -> None:
    box.put(stored(7))
    maildirs = box.watch()
    maildirs.finish()
    (arrival,) = maildirs.arrivals
    assert (arrival.number, arrival.recipient) == (7, "alice@crashtest.invalid")
    assert arrival.at == 1700000000.000123
    assert maildirs.faults == []


def test_arrivals_are_seen_while_it_runs(box: Box, watched: Maildirs) -> None:
    box.put(stored())
    eventually(lambda: len(watched.arrivals) == 1)
    box.put(stored(2), name="2")
    eventually(lambda: len(watched.arrivals) == 2)


def test_what_is_in_part_for_a_moment_only_is_seen_all_the_same(
    box: Box, watched: Maildirs
) -> None:
    whole = stored()
    path = box.put(whole[:-1])
    eventually(lambda: bool(watched.faults))
    path.write_bytes(whole)
    watched.finish()
    assert len(watched.faults) == 1
    assert watched.arrivals == []


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"", "empty"),
        (stored()[:-100], "octets in place of"),
        (stored()[12:], "does not begin with our own fields"),
        (stored() + stored(2), "octets in place of"),
        (stored(recipient="bob@crashtest.invalid"), "it is for bob@crashtest.invalid"),
        (stored().replace(b"X-Pfsmtp", b"X-Other"), "no whole header"),
    ],
    ids=["empty", "cut", "beheaded", "merged", "misdelivered", "foreign"],
)
def test_what_is_no_whole_message_for_its_owner_is_a_fault(
    box: Box, octets: bytes, fault: str
) -> None:
    box.put(octets)
    maildirs = box.watch()
    maildirs.finish()
    assert len(maildirs.faults) == 1
    assert f"alice/new/{NAME}: " in maildirs.faults[0]
    assert fault in maildirs.faults[0]
    assert maildirs.arrivals == []


def test_a_file_that_goes_away_is_a_fault(box: Box, watched: Maildirs) -> None:
    path = box.put(stored())
    eventually(lambda: len(watched.arrivals) == 1)
    path.unlink()
    watched.finish()
    assert watched.faults == [f"alice/new/{NAME} was whole, and is gone"]


def test_a_file_that_changes_is_a_fault(box: Box, watched: Maildirs) -> None:
    path = box.put(stored())
    eventually(lambda: len(watched.arrivals) == 1)
    path.write_bytes(stored()[:-2] + b"!\n")
    watched.finish()
    assert watched.faults == [f"alice/new/{NAME} was whole, and is no more"]


def test_the_oldest_are_removed_when_there_is_too_much(box: Box, watched: Maildirs) -> None:
    watched.close()
    maildirs = box.watch(space=15_000)
    maildirs.start()
    with closing(maildirs):
        for number in range(10):
            box.put(stored(number, size=3000), name=f"{number}")
            eventually(lambda number=number: len(maildirs.arrivals) == number + 1)  # type: ignore[misc]
        eventually(lambda: len(list((box.base / "alice" / "new").iterdir())) <= 5)
        maildirs.finish()
    left = {path.name for path in (box.base / "alice" / "new").iterdir()}
    assert "9" in left
    assert "0" not in left
    assert maildirs.faults == []
    assert len(maildirs.arrivals) == 10


def test_reports_go_to_a_maildir_of_their_own(box: Box) -> None:
    head = b"Return-Path: <>\nDelivered-To: crashtest+12@[127.0.0.1]\n"
    whole = head + bounce("refuse.1@[127.0.0.1]").replace(b"\r\n", b"\n")
    box.put(whole, login=REPORTS)
    box.put(whole[:-3], login=REPORTS, name="2")
    maildirs = box.watch()
    maildirs.finish()
    (report,) = maildirs.reports
    assert (report.number, report.recipients) == (12, ("refuse.1@[127.0.0.1]",))
    assert maildirs.faults == [f"{REPORTS}/new/2: it is no whole report"]


def test_what_killed_deliveries_have_left_is_counted(box: Box) -> None:
    (box.base / "bob" / "tmp" / "left").write_bytes(b"half of")
    maildirs = box.watch()
    maildirs.finish()
    assert maildirs.left_in_tmp() == 1
    assert maildirs.faults == []
