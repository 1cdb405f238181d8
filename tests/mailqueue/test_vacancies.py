"""Free slots: each is one process's at a time, and comes back when its message is finished."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pfsmtp.mailqueue.entry import Selection, Wish
from pfsmtp.mailqueue.segment import KINDS, lock, segment_of, slot_of
from pfsmtp.smtp.errors import TransientFailure
from tests import disks
from tests.mailqueue.conftest import DELIVERED, MakeSpool, SpoolWorld, envelope, put
from tests.process.forked import Child
from tests.syscalls import Border, Call, until

SMALL = KINDS[0]


def files_of(world: SpoolWorld) -> list[Path]:
    return sorted(path for path in (world.path / "slots").rglob("*") if path.is_file())


def deliver_all(world: SpoolWorld) -> int:
    """Deliver all that waits; returns how much."""
    shard = world.shard()
    for count in itertools.count():
        unit = shard.due(world.clock())
        if unit is None:
            return count
        lease = shard.claim(unit)
        assert lease is not None
        lease.record({0: DELIVERED})
    raise AssertionError


def test_slots_are_used_again_and_again(files: SpoolWorld) -> None:
    for _ in range(4):
        for _ in range(400):
            put(files.queue, "a@example.org")
        assert deliver_all(files) == 400
    assert len(files_of(files)) <= 2


def test_slot_in_use_is_never_given(files: SpoolWorld) -> None:
    ids = {put(files.queue, "a@example.org") for _ in range(2 * SMALL.count + 1)}
    assert {view.entry.id for view in files.queue.views(Selection())} == ids
    assert len(files_of(files)) == 3


def test_slot_that_is_being_filled_is_not_taken_for_free(files: SpoolWorld) -> None:
    vacancies = files.spool._files.vacancies
    taken = [vacancies.take(SMALL) for _ in range(3 * SMALL.count)]
    assert len(set(taken)) == len(taken)
    for place in taken:
        vacancies.written(place)
    # They were not written after all: all are found free.
    again = [vacancies.take(SMALL) for _ in range(SMALL.count)]
    assert set(again) <= set(taken)


def test_slot_that_is_filled_while_it_is_looked_at_is_not_taken_for_free(
    files: SpoolWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read of it is the message before, which is finished."""
    for _ in range(SMALL.count):
        put(files.queue, "old@example.org")
    assert deliver_all(files) == SMALL.count
    segments = files.spool._files.segments
    heads = segments.heads
    writing: list[Call] = []
    go_on, put_done = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        writing.append(call)
        assert go_on.wait(10)

    def put_slowly() -> str:
        id = put(files.queue, "slow@example.org")
        put_done.set()
        return id

    def heads_and_then_the_put_ends(file: int) -> Iterator[tuple[int, memoryview]]:
        pages = list(heads(file))
        go_on.set()
        assert put_done.wait(10)
        yield from pages

    end = Border(("pwritev",), hold).start(put_slowly)
    until(lambda: bool(writing), "the slow put writes")
    for _ in range(SMALL.count - 1):
        put(files.queue, "new@example.org")
    assert deliver_all(files) == SMALL.count - 1
    monkeypatch.setattr(segments, "heads", heads_and_then_the_put_ends)
    for _ in range(SMALL.count):
        put(files.queue, "newer@example.org")
    slow = end()
    assert slow in {view.entry.id for view in files.queue.views(Selection())}


def test_threads_that_put_while_others_deliver_lose_nothing(files: SpoolWorld) -> None:
    shard = files.shard()
    threads, each = 16, 150

    def put_some() -> None:
        for _ in range(each):
            put(files.queue, "a@example.org")

    putting = [threading.Thread(target=put_some) for _ in range(threads)]
    for thread in putting:
        thread.start()
    delivered, deadline = 0, time.monotonic() + 60
    while delivered < threads * each:
        shard.hear(0.1)
        while (unit := shard.due(files.clock())) is not None:
            lease = shard.claim(unit)
            assert lease is not None
            lease.record({0: DELIVERED})
            delivered += 1
        assert time.monotonic() < deadline, f"{threads * each - delivered} are lost"
    for thread in putting:
        thread.join()
    assert list(files.queue.views(Selection())) == []


def test_two_processes_never_use_one_file_at_a_time(files: SpoolWorld) -> None:
    other = files.open()
    for _ in range(300):
        put(files.queue, "a@example.org")
        put(other, "b@example.org")
    assert len(list(files.queue.views(Selection()))) == 600
    assert deliver_all(files) == 600
    mine = {segment_of(files.spool._files.vacancies.take(SMALL)) for _ in range(400)}
    theirs = {segment_of(other._files.vacancies.take(SMALL)) for _ in range(400)}
    assert not mine & theirs
    other.close()


def test_files_of_a_process_that_died_are_used_by_the_next(files: SpoolWorld) -> None:
    def put_some() -> int:
        queue = files.open()
        return len([put(queue, "a@example.org") for _ in range(10)])

    for _ in range(5):
        assert Child(put_some).result() == 10
    assert len(files_of(files)) == 1
    assert deliver_all(files) == 50


def test_process_that_starts_uses_the_newest_file_though_there_are_full_ones(
    files: SpoolWorld,
) -> None:
    for _ in range(4 * SMALL.count + 10):
        put(files.queue, "a@example.org")
    for _ in range(5):
        files.restart()
        put(files.queue, "a@example.org")
    assert len(files_of(files)) == 5


def test_full_file_is_left_to_whoever_finds_it_free(files: SpoolWorld) -> None:
    for _ in range(SMALL.count + 1):
        put(files.queue, "a@example.org")
    other = files.open()
    first, _second = files_of(files)
    files.queue.carry_out(Wish.DELETE, Selection())
    put(other, "b@example.org")
    # The file that was full has no owner any more, and has free slots: it is taken.
    assert len(files_of(files)) == 2
    assert any(octets != 0 for octets in first.read_bytes()[: SMALL.size])
    other.close()


def test_slot_whose_end_is_being_noted_down_is_not_given(files: SpoolWorld) -> None:
    """That it is free can be read before it is on disk, and it is locked until then."""
    for _ in range(SMALL.count):
        put(files.queue, "a@example.org")
    assert deliver_all(files) == SMALL.count
    segments = files.spool._files.segments
    (segment,) = segments.existing(SMALL)
    pen = segments.open(segment)
    for slot in range(SMALL.count):
        assert lock(pen, slot * SMALL.size, 1)
    ids = {put(files.queue, "b@example.org") for _ in range(10)}
    assert {view.entry.id for view in files.queue.views(Selection())} == ids
    assert len(files_of(files)) == 2
    os.close(pen)


def test_slots_are_given_in_order(files: SpoolWorld) -> None:
    vacancies = files.spool._files.vacancies
    assert [slot_of(vacancies.take(SMALL)) for _ in range(5)] == list(range(5))


def test_writers_at_the_same_moment_write_to_one_file(files: SpoolWorld) -> None:
    """Which is synced once for them all."""
    vacancies = files.spool._files.vacancies
    taken = [vacancies.take(SMALL) for _ in range(40)]
    assert len(set(taken)) == 40
    assert len(set(map(segment_of, taken))) == 1
    assert len(files_of(files)) == 1


def test_disk_without_room_for_a_file_lets_the_last_slots_be_used(
    make_spool: MakeSpool, tmp_path: Path
) -> None:
    with disks.tmpfs(tmp_path / "disk", "size=3m") as disk:
        world = make_spool(disk / "queue")
        for _ in range(SMALL.count):
            put(world.queue, "a@example.org")
        refused(lambda: put(world.queue, "a@example.org"))
        keep = put_aside(world)
        for _ in range(40):
            put(world.queue, "b@example.org")
        refused(lambda: put(world.queue, "b@example.org"))
        assert len(list(world.queue.views(Selection(domain="example.org")))) == SMALL.count
        assert len(keep) == 40
        assert sorted(path.name for path in (world.path / "tmp").iterdir()) == []
        world.close()


def put_aside(world: SpoolWorld) -> list[str]:
    """Delete forty messages; returns their ids."""
    ids = [view.entry.id for view in itertools.islice(world.queue.views(Selection()), 40)]
    for id in ids:
        world.queue.carry_out(Wish.DELETE, Selection(id=id))
    return ids


def refused(action: Callable[[], object]) -> None:
    with pytest.raises(TransientFailure) as caught:
        action()
    assert str(caught.value.status) == "4.3.1"


def test_large_messages_have_files_of_their_own_size(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org", message=b"x" * 100_000)
    put(files.queue, "a@example.org", message=b"x" * 10_000)
    put(files.queue, *(f"user{number}@d{number}.example" for number in range(200)))
    kinds = {path.parent.name for path in files_of(files)}
    assert kinds == {"16k", "128k"}
    assert {view.entry.size for view in files.queue.views(Selection())} >= {100_000, 10_000}


def test_intake_that_fails_leaves_its_slot_to_the_next(files: SpoolWorld) -> None:
    intake = files.queue.begin(envelope())  # nobody is to have it
    intake.write(b"x")
    with pytest.raises(Exception, match="recipients"):
        intake.commit()
    put(files.queue, "a@example.org")
    assert len(files_of(files)) == 1
