"""The record of a disk: writes and flushes in their order, and what a power cut leaves of them.

After each entry its number is known to everybody (`Position`), so that others can say "when this
happened, so much was in the record".

A disk with a write cache promises that what was written before a flush is there after a power cut,
and nothing about what was written since: each of those writes may be there or not, whatever came
first, or only some of its sectors.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

_HEAD = struct.Struct("<dQI")  # when, offset, size; a flush has size 0
_NUMBER = struct.Struct("<Q")


class Writer:
    """Writes the record, and its position beside it."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115, it is closed in __exit__
        self._position = Position(Path(path))
        self._entries = 0

    def write(self, offset: int, octets: memoryview, *, at: float) -> None:
        os.writev(self._file.fileno(), (_HEAD.pack(at, offset, len(octets)), octets))
        self._done()

    def flush(self, *, at: float) -> None:
        self._file.write(_HEAD.pack(at, 0, 0))
        self._done()

    def _done(self) -> None:
        self._entries += 1
        self._position.set(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._file.close()
        self._position.close()


class Position:
    """How many entries a record has, shared among processes."""

    def __init__(self, record: Path) -> None:
        path = record.with_name(f"{record.name}.position")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, _NUMBER.size)
        self._shared = mmap.mmap(descriptor, _NUMBER.size)
        os.close(descriptor)

    def set(self, entries: int) -> None:
        _NUMBER.pack_into(self._shared, 0, entries)

    def __call__(self) -> int:
        number: int = _NUMBER.unpack_from(self._shared)[0]
        return number

    def close(self) -> None:
        self._shared.close()


@dataclass(frozen=True, slots=True)
class Entry:
    """A write, or a flush, whose `octets` are empty; `at` is in Unix seconds."""

    at: float
    offset: int
    octets: bytes

    @property
    def is_flush(self) -> bool:
        return not self.octets


def read(path: Path) -> list[Entry]:
    """Everything in a record that is no longer written to."""
    octets = path.read_bytes()
    entries, at = [], 0
    while at < len(octets):
        when, offset, size = _HEAD.unpack_from(octets, at)
        at += _HEAD.size + size
        entries.append(Entry(when, offset, octets[at - size : at]))
    return entries


@dataclass(frozen=True, slots=True)
class Cut:
    """The power fails when so many entries of a record have come about; `at` is when."""

    position: int
    at: float


class Remains:
    """What a disk holds after a power cut; cuts are asked for in their order."""

    def __init__(self, image: Path, entries: Sequence[Entry], *, sector: int) -> None:
        """`image` is what the disk held before; it is brought up to date. `sector` is in octets.

        A sector is never written in part.
        """
        self._image = image
        self._entries = entries
        self._sector = sector
        self._safe = 0  # entries that are in the image

    def cut(self, position: int) -> Cut:
        return Cut(position, self._entries[position - 1].at)

    def before_flushes(self, first: int, last: int) -> list[int]:
        """The positions between these where the next entry is a flush, and the one before not."""
        return [
            number
            for number in range(first, last)
            if self._entries[number].is_flush and not self._entries[number - 1].is_flush
        ]

    def after(self, cut: Cut, copy: Path, random: Random) -> int:
        """Make `copy` what is left, and return how many writes had not been flushed."""
        flushes = range(cut.position - 1, self._safe - 1, -1)
        last = next((number for number in flushes if self._entries[number].is_flush), self._safe)
        apply(
            self._image, ((each.offset, each.octets) for each in self._entries[self._safe : last])
        )
        self._safe = last
        unflushed = [each for each in self._entries[last : cut.position] if not each.is_flush]
        copy_sparse(self._image, copy)
        apply(copy, survivors(unflushed, random, sector=self._sector))
        return len(unflushed)


def survivors(
    unflushed: Sequence[Entry], random: Random, *, sector: int
) -> Iterator[tuple[int, bytes]]:
    """Offsets and octets of what has come to the disk all the same.

    All of it, or nothing, or some; of a write, the whole or some sectors.
    """
    share = random.choice((0.0, 0.2, 0.5, 0.8, 1.0))
    for entry in unflushed:
        if random.random() < share:
            yield entry.offset, entry.octets
        elif 0.0 < share < 1.0 and random.random() < 0.5:
            yield from _torn(entry, random, sector)


def _torn(entry: Entry, random: Random, sector: int) -> Iterator[tuple[int, bytes]]:
    """Some sectors of a write."""
    start = -entry.offset % sector
    for at in (0, *range(start or sector, len(entry.octets), sector)):
        end = at + sector - (entry.offset + at) % sector
        if random.random() < 0.5:
            yield entry.offset + at, entry.octets[at:end]


def apply(image: Path, pieces: Iterable[tuple[int, bytes]]) -> None:
    """Write pieces to an image."""
    descriptor = os.open(image, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for offset, octets in pieces:
            os.pwrite(descriptor, octets, offset)
    finally:
        os.close(descriptor)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy an image, its holes as holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
