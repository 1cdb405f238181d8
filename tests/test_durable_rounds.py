"""Deliveries to one directory at the same moment: one thread brings in the files of all."""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pfsmtp.durable import Directory, Filesystem
from tests import disks
from tests.boxes import FILES, Box
from tests.crowds import Crowd
from tests.syscalls import HOLD, Call, Judge, Verdict, failing, on, passes

LARGE = bytes(64 << 10)
OTHERS = [f"m{i}" for i in range(8)]
ALL = ["first", *OTHERS]
N = len(OTHERS)
SLOW = 0.005  # seconds of a sync on a disk that is slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One whose syncs take next to nothing."""
    with disks.tmpfs(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def box(disk: Path) -> Box:
    """A box to which many have just delivered at once, and that is synced quickly."""
    box = Box(disk)
    make_quick(box)
    deliver_many(box)
    return box


def make_quick(box: Box) -> None:
    for _ in range(100):  # of which the quickest counts
        box.new.sync()


def deliver_many(box: Box, judge: Judge = passes) -> None:
    Round(box, judge)
    for name in box.shown():
        (box.path / "new" / name).unlink()


class Round:
    """Thread `first` is held in its sync of `new/`, while others deliver at the same moment.

    From when they come, `judge` says what becomes of each system call. What was called before the
    first sync ended is in `before`, what was called from then on in `calls`.
    """

    def __init__(self, box: Box, judge: Judge = passes, *, octets: bytes = b"x") -> None:
        self._synced = box.new.fd
        self._judge = judge
        self._first_is_held = False
        crowd = Crowd(
            {name: partial(box.deliver, name, octets) for name in ALL},
            lambda: box.new.waiting,
            FILES,
            self._hold_first,
        )
        first = crowd.first_in_sync()
        self.before = list(crowd.border.calls)
        self.ended_before = list(crowd.ended)
        self.shown_before = sorted(box.shown())
        time.sleep(SLOW)  # so that it is not the quickest of late
        crowd.border.let_go(first)
        crowd.end()
        self.calls = crowd.border.calls[len(self.before) :]
        self.ended = crowd.ended
        self.failures = crowd.os_errors()

    def _hold_first(self, call: Call) -> Verdict:
        if self._first_is_held:
            return self._judge(call)
        if call.name == "fsync" and call.args[0] == self._synced:
            self._first_is_held = True
            return HOLD
        return None


def names(calls: list[Call]) -> list[str]:
    return [call.name for call in calls]


def test_files_are_synced_and_renamed_before_the_one_sync_that_shows_them_all(box: Box) -> None:
    calls = Round(box).calls
    assert names(calls) == ["fsync"] * N + ["renameat2"] * N + ["fsync"]
    on_directory = [call.args[0] == box.new.fd for call in calls if call.name == "fsync"]
    assert on_directory == [False] * N + [True]
    assert sorted(box.shown()) == ALL
    assert box.staged() == []


def test_who_comes_during_a_sync_is_neither_shown_nor_told_of_before_it_ends(box: Box) -> None:
    round = Round(box)
    assert round.shown_before == ["first"]
    assert round.ended_before == []
    assert sorted(round.ended) == ALL


def test_file_that_could_not_be_synced_fails_alone(box: Box) -> None:
    failed: list[int] = []

    def judge(call: Call) -> Verdict:
        if call.name == "fsync" and not failed:
            failed.append(call.args[0])
            return errno.EIO
        return None

    round = Round(box, judge)
    (loser,) = round.failures
    assert round.failures[loser].errno == errno.EIO
    assert "fsync" in str(round.failures[loser])
    assert round.failures[loser].filename == loser
    assert sorted(box.shown()) == sorted({*ALL} - {loser})
    assert box.staged() == []
    # It is taken out of tmp/; what was never in new/ needs no sync there.
    assert sorted(names(round.calls)) == ["fsync"] * (N + 1) + ["renameat2"] * (N - 1) + [
        "unlinkat"
    ]


@pytest.mark.parametrize("kind", ["box", "crowded"])
def test_name_that_was_taken_fails_alone(kind: str, request: pytest.FixtureRequest) -> None:
    box: Box = request.getfixturevalue(kind)
    (box.path / "new/m3").write_bytes(b"was here")
    round = Round(box)
    assert isinstance(round.failures.pop("m3"), FileExistsError)
    assert not round.failures
    assert box.shown() == dict.fromkeys(ALL, b"x") | {"m3": b"was here"}
    assert box.staged() == []


def test_directory_that_could_not_be_synced_keeps_nothing_of_its_round(box: Box) -> None:
    round = Round(box, failing("fsync", errno.EIO, on(box.new.fd)))
    assert {name: failure.errno for name, failure in round.failures.items()} == dict.fromkeys(
        OTHERS, errno.EIO
    )
    assert all(str(failure).startswith("[Errno 5] sync") for failure in round.failures.values())
    assert list(box.shown()) == ["first"]
    assert box.staged() == []


def test_directory_is_not_synced_for_a_round_of_which_nothing_is_left(box: Box) -> None:
    round = Round(box, failing("fsync", errno.ENOSPC))
    assert sorted(round.failures) == OTHERS
    assert sorted(names(round.calls)) == ["fsync"] * N + ["unlinkat"] * N
    box.deliver("later")
    assert sorted(box.shown()) == ["first", "later"]


def test_large_files_are_synced_by_their_own_threads(box: Box) -> None:
    round = Round(box, octets=LARGE)
    assert names(round.before).count("fsync") == 2 + N
    assert names(round.calls) == ["renameat2"] * N + ["fsync"]


def test_where_few_deliver_at_once_files_are_synced_by_their_own_threads(disk: Path) -> None:
    box = Box(disk)
    make_quick(box)
    round = Round(box)
    assert names(round.before).count("fsync") == 2 + N
    assert names(round.calls) == ["renameat2"] * N + ["fsync"]


def test_where_the_disk_is_slow_files_are_synced_by_their_own_threads(disk: Path) -> None:
    box = Box(disk)
    deliver_many(box, lambda call: time.sleep(SLOW) if on(box.new.fd)(call) else None)
    round = Round(box)
    assert names(round.before).count("fsync") == 2 + N
    assert names(round.calls) == ["renameat2"] * N + ["fsync"]


def test_where_the_disk_is_quick_again_one_thread_syncs_the_files_of_all(disk: Path) -> None:
    box = Box(disk)
    deliver_many(box, lambda call: time.sleep(SLOW) if on(box.new.fd)(call) else None)
    make_quick(box)
    deliver_many(box)
    assert names(Round(box).calls).count("fsync") == N + 1


# A crowd: the file system in place of each


@pytest.fixture
def crowded(box: Box, disk: Path) -> Box:
    """A box to which many deliver, whose file system may be synced in place of it."""
    box.instead = Filesystem(Directory(disk))
    return box


def test_file_system_is_synced_before_all_are_renamed_and_after_it(crowded: Box) -> None:
    calls = Round(crowded).calls
    assert names(calls) == ["syncfs"] + ["renameat2"] * N + ["syncfs"]
    assert sorted(crowded.shown()) == ALL
    assert crowded.staged() == []


def test_fewer_than_a_crowd_are_synced_themselves(
    crowded: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.test_durable_rounds.ALL", ALL[:-1])
    calls = Round(crowded).calls
    assert names(calls) == ["fsync"] * (N - 1) + ["renameat2"] * (N - 1) + ["fsync"]


def test_large_files_that_are_on_disk_already_share_what_is_left(crowded: Box) -> None:
    round = Round(crowded, octets=LARGE)
    assert names(round.before).count("fsync") == 2 + N
    assert names(round.calls) == ["renameat2"] * N + ["syncfs"]


@pytest.mark.parametrize("failed", [1, 2])
def test_failed_sync_of_the_file_system_keeps_nothing_of_the_round(
    crowded: Box, failed: int
) -> None:
    syncs = itertools.count(1)
    round = Round(crowded, failing("syncfs", errno.EIO, lambda call: next(syncs) == failed))
    assert {name: failure.errno for name, failure in round.failures.items()} == dict.fromkeys(
        OTHERS, errno.EIO
    )
    assert all(str(failure).startswith("[Errno 5] sync") for failure in round.failures.values())
    assert {failure.filename for failure in round.failures.values()} == {*OTHERS}
    assert list(crowded.shown()) == ["first"]
    assert crowded.staged() == []
    assert crowded.instead is not None
    assert crowded.instead.failed
    assert crowded.new.failed == (failed == 2)
