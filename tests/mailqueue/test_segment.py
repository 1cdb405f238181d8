"""The files of slots: their places, their pens and their locks."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp import durable
from pfsmtp.mailqueue import segment
from pfsmtp.mailqueue.segment import KINDS, OWNER, Segments, kind_for, lock, some_lock, unlock
from pfsmtp.mailqueue.slot import PAGE
from tests.process.forked import Child
from tests.syscalls import HOLD, Border, failing, until

SMALL = KINDS[0]


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    for name in ("slots", "tmp"):
        (tmp_path / name).mkdir()
    return Segments(
        durable.Directory(tmp_path / "slots"), durable.Directory(tmp_path / "tmp"), now=0.0
    )


@given(
    st.sampled_from(KINDS),
    st.integers(1, (1 << 32) - 1),
    st.integers(0, 511),
    st.integers(0, segment.MOST_UNITS - 1),
)
def test_place_is_read_apart_as_it_was_put_together(
    kind: segment.Kind, number: int, slot: int, unit: int
) -> None:
    file = segment.segment_id(kind, number)
    place = segment.place_in(file, slot, unit)
    assert place < 1 << 63
    assert (segment.segment_of(place), segment.slot_of(place)) == (file, slot)
    assert segment.unit_of(place) == unit
    assert segment.kind_of(file) == kind
    assert segment.offset_of(place) == slot * kind.size


def test_kind_is_the_smallest_that_fits() -> None:
    assert [kind.size for kind in KINDS] == sorted(kind.size for kind in KINDS)
    for kind in KINDS:
        assert kind_for(kind.size) is kind
        assert kind_for(kind.size + 1) is not kind
        assert kind.size % PAGE == 0
    assert kind_for(KINDS[-1].size + 1) is None


def test_new_file_is_full_of_free_slots_and_owned(segments: Segments, tmp_path: Path) -> None:
    file, owner = segments.create(SMALL)
    path = tmp_path / "slots" / segment.name_of(file)
    assert path.read_bytes() == bytes(SMALL.size * SMALL.count)
    assert path.stat().st_blocks * 512 >= SMALL.size * SMALL.count
    assert path.stat().st_mode & 0o777 == 0o600
    assert segments.adopt(file) is None
    os.close(owner)
    adopted = segments.adopt(file)
    assert adopted is not None
    os.close(adopted)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_number_never_recurs(segments: Segments) -> None:
    files = []
    for _ in range(3):
        file, owner = segments.create(SMALL)
        os.close(owner)
        files.append(file)
    segments.remove(files[0])
    file, owner = segments.create(SMALL)
    os.close(owner)
    assert file not in files
    assert segments.existing(SMALL) == [*files[1:], file]


def test_number_that_another_process_took_is_passed_over(
    segments: Segments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slots" / "4k" / "00000001").write_bytes(b"")
    monkeypatch.setattr(segments, "existing", lambda kind: [])
    file, owner = segments.create(SMALL)
    os.close(owner)
    assert segment.name_of(file) == "4k/00000002"


def test_file_that_was_removed_is_not_adopted(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    os.close(owner)
    segments.remove(file)
    assert segments.adopt(file) is None
    assert segments.existing(SMALL) == []


def test_names_of_others_are_told_apart(segments: Segments, tmp_path: Path) -> None:
    for name in ("00000007", "notes", "0000007", "000000007", "\u0660" * 7 + "\u0667"):
        (tmp_path / "slots" / "4k" / name).write_bytes(b"")
    assert segments.existing(SMALL) == [segment.segment_id(SMALL, 7)]
    assert len(segments.foreign(SMALL)) == 4


def test_owner_that_dies_owns_nothing(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    os.close(owner)
    child = Child(lambda: segments.adopt(file) is not None)
    assert child.result() is True
    adopted = segments.adopt(file)
    assert adopted is not None
    os.close(adopted)


def test_pen_is_of_one_holder(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    first, second = segments.take(file), segments.take(file)
    assert first != second
    assert lock(first, 0, 1)
    assert not lock(second, 0, 1)
    assert lock(second, 1, 1)
    unlock(first, 0, 1)
    assert lock(second, 0, 1)
    os.close(second)
    assert lock(first, 0, 2)
    os.close(first)
    os.close(owner)


def test_pens_are_used_again_and_not_too_many_are_kept(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    pens = [segments.take(file) for _ in range(200)]
    for pen in pens:
        segments.give(file, pen)
    still_open = [pen for pen in pens if is_open(pen)]
    assert len(still_open) == 128
    assert segments.take(file) in still_open
    segments.close()
    os.close(owner)
    assert sum(map(is_open, pens)) <= 1


def test_trouble_with_a_pen_closes_the_idle_ones(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    idle, bad = segments.take(file), segments.take(file)
    segments.give(file, idle)
    with pytest.raises(ZeroDivisionError), segments.pen(file):
        _ = 1 // 0
    segments.spoil(file, bad)
    assert not is_open(bad)
    os.close(owner)


def test_group_commit_is_one_for_all_until_its_sync_has_failed(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    group = segments.group_commit(file)
    assert segments.group_commit(file) is group
    segments.spoil(file, segments.take(file))  # which says nothing of what others have written
    assert segments.group_commit(file) is group
    with pytest.raises(OSError, match="Input/output"):
        Border(("fdatasync",), failing("fdatasync", errno.EIO)).run(group.sync)
    another = segments.group_commit(file)
    assert another is not group
    assert segments.group_commit(file) is another
    another.sync()
    os.close(owner)


def test_threads_that_ask_for_a_group_commit_at_once_get_the_same(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    os.close(owner)
    border = Border(("openat",), lambda call: HOLD)
    with ThreadPoolExecutor(3) as threads:
        end = border.start(lambda: segments.group_commit(file))
        until(lambda: len(border.held) == 1, "a file that is opened")
        others = [threads.submit(segments.group_commit, file) for _ in range(3)]
        border.let_go(border.held[0])
        assert {end(), *(other.result() for other in others)} == {segments.group_commit(file)}
    assert len(open_files(segments, file)) == 1


def test_not_too_many_group_commits_are_kept_open(segments: Segments, tmp_path: Path) -> None:
    files = [segment.segment_id(SMALL, number) for number in range(1, 201)]
    for file in files:
        (tmp_path / "slots" / segment.name_of(file)).write_bytes(b"")
    first = segments.group_commit(files[0])
    for file in files[1:]:
        segments.group_commit(file)
    assert sum(len(open_files(segments, file)) for file in files) == 64 + 1
    first.sync()  # whoever has it may go on
    del first
    segments.close()
    assert sum(len(open_files(segments, file)) for file in files) == 0


def test_group_commit_of_a_file_that_is_removed_is_closed(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    os.close(owner)
    segments.group_commit(file)
    removed = open_files(segments, file)
    assert len(removed) == 1
    segments.remove(file)
    assert not any(map(is_open, removed))
    with pytest.raises(FileNotFoundError):
        segments.group_commit(file)


def test_group_commit_that_cannot_be_made_leaves_nothing_open(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, owner = segments.create(SMALL)
    os.close(owner)

    def no_memory(fd: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(segment, "GroupCommit", no_memory)
        with pytest.raises(MemoryError):
            segments.group_commit(file)
    assert open_files(segments, file) == []
    segments.group_commit(file).sync()


def test_locks_of_others_are_found_and_none_is_taken(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    pens = [segments.take(file) for _ in range(3)]
    held = [(5, 6), (4096, 8192), (9000, 9001), (2_000_000, 2_000_002)]
    for number, (start, end) in enumerate(held):
        assert lock(pens[number % 3], start, end - start)
    assert sorted(segments.locked(file)) == held
    assert sorted(segments.locked(file)) == held
    assert some_lock(pens[0], 10, 100) is None
    assert some_lock(pens[0], OWNER, 1) is not None
    for pen in (*pens, owner):
        os.close(pen)
    assert segments.locked(file) == []


def test_reading_stops_at_the_end_of_the_slot(segments: Segments) -> None:
    file, owner = segments.create(SMALL)
    assert len(segments.read(segment.place_in(file, 3), 1 << 40)) == SMALL.size
    os.close(owner)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_first_pages_are_read_of_all_slots(segments: Segments, kind: segment.Kind) -> None:
    file, owner = segments.create(kind)
    for slot in range(kind.count):
        os.pwrite(owner, b"%d!" % slot, slot * kind.size)
    pages = dict(segments.heads(file))
    assert list(pages) == list(range(kind.count))
    for slot, page in pages.items():
        assert bytes(page) == (b"%d!" % slot).ljust(PAGE, b"\0")
    os.ftruncate(owner, kind.size * (kind.count - 1) + 100)
    assert len(dict(segments.heads(file))[kind.count - 1]) == 100
    os.close(owner)


def open_files(segments: Segments, file: int) -> list[int]:
    """The descriptors of a segment's file that this process has."""
    path = Path(f"/proc/self/fd/{segments.directory(segment.kind_of(file)).fd}").readlink()
    name = str(path / segment.name_of(file).rpartition("/")[2])
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}") == name:
                found.append(fd)
    return found


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
