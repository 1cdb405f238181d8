"""What the power cuts of these tests take, and what they never do."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.powercut.record import Entry, Remains, Writer, read, survivors

SECTOR = 512
SEEDS = range(200)


def write(offset: int, octets: bytes) -> Entry:
    return Entry(1.0, offset, octets)


FLUSH = Entry(2.0, 0, b"")


def left(directory: Path, entries: list[Entry], position: int, seed: int) -> bytes:
    """The disk, of zeros before, after a power cut."""
    image, copy = directory / "image", directory / "copy"
    image.write_bytes(bytes(8 * SECTOR))
    remains = Remains(image, entries, sector=SECTOR)
    remains.after(remains.cut(position), copy, Random(seed))
    return copy.read_bytes()


def test_what_was_flushed_is_there_whatever_becomes_of_the_rest(tmp_path: Path) -> None:
    entries = [write(0, b"a" * SECTOR), FLUSH, write(SECTOR, b"b" * SECTOR), write(0, b"c" * 100)]
    found = {left(tmp_path, entries, 4, seed) for seed in SEEDS}
    assert {octets[100:SECTOR] for octets in found} == {b"a" * (SECTOR - 100)}
    assert {octets[:100] for octets in found} == {b"a" * 100, b"c" * 100}


def test_a_flush_says_nothing_of_what_comes_after_it_or_of_later_cuts(tmp_path: Path) -> None:
    entries = [write(0, b"a" * SECTOR), FLUSH]
    assert {left(tmp_path, entries, 1, seed)[:1] for seed in SEEDS} == {b"a", b"\0"}
    assert {left(tmp_path, entries, 2, seed)[:1] for seed in SEEDS} == {b"a"}


def test_later_writes_may_be_there_without_earlier_ones(tmp_path: Path) -> None:
    entries = [write(number * SECTOR, b"x" * SECTOR) for number in range(2)]
    found = {left(tmp_path, entries, 2, seed)[::SECTOR][:2] for seed in SEEDS}
    assert found == {b"\0\0", b"x\0", b"\0x", b"xx"}


def test_a_write_may_be_torn_but_never_within_a_sector() -> None:
    entry = write(SECTOR // 2, bytes(range(256)) * 6)
    torn = set()
    for seed in SEEDS:
        for offset, octets in survivors([entry], Random(seed), sector=SECTOR):
            end = offset + len(octets)
            assert octets == entry.octets[offset - entry.offset : end - entry.offset]
            assert offset in (entry.offset, *range(0, end, SECTOR))
            assert end % SECTOR == 0 or end == entry.offset + len(entry.octets)
            torn.add((offset, end))
    assert len(torn) == 5  # the whole, and its four sectors


def test_cuts_one_after_the_other_are_as_if_each_were_alone(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(8 * SECTOR))
    entries = [
        each for number in range(8) for each in (write(number * SECTOR, b"x" * SECTOR), FLUSH)
    ]
    remains = Remains(image, entries, sector=SECTOR)
    for number in range(1, 9):
        remains.after(remains.cut(2 * number), tmp_path / "copy", Random(number))
        there = (tmp_path / "copy").read_bytes()[::SECTOR]
        assert there == b"x" * number + bytes(8 - number)


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "record"
    with Writer(str(path)) as writer:
        writer.write(4096, memoryview(b"octets"), at=1.5)
        writer.flush(at=2.5)
    assert read(path) == [Entry(1.5, 4096, b"octets"), Entry(2.5, 0, b"")]
