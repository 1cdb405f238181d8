"""Reading through the whole queue: every message in it, and the operator's view of it.

Takes no lock and changes nothing, so what it reads may be changing meanwhile. A slot that cannot
be made sense of is told to the caller, with its place: it may be damaged, or just being written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from pfsmtp.mailqueue.entry import Condition, Damaged, Selection, View, text_of
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.segment import KINDS, Segments, offset_of, place_in
from pfsmtp.mailqueue.slot import PAGE, Damage, Head, entry_of, is_empty, reach
from pfsmtp.mailqueue.state import Phase

Unclear = Callable[[int, Damage], None]

_PHASES = {Phase.WAITING: Condition.WAITING, Phase.HELD: Condition.HELD}


def segments_in(segments: Segments) -> list[int]:
    """All files there are."""
    return [segment for kind in KINDS for segment in segments.existing(kind)]


def messages(
    segments: Segments, segment: int, unclear: Unclear
) -> Iterator[tuple[int, memoryview, Head]]:
    """Read the messages in a file: place of the slot, octets up to the body, head.

    Those that are finished are among them. A file that was removed has none.
    """
    try:
        for number, page in segments.heads(segment):
            if is_empty(page):
                continue
            place = place_in(segment, number)
            try:
                needed = reach(page)
                octets = page if needed <= PAGE else segments.read(place, needed)
                yield place, octets, Head(octets)
            except Damage as damage:
                unclear(place, damage)
    except FileNotFoundError:
        return


def views(files: Files, selection: Selection) -> Iterator[View]:
    """The units that are selected, as they are now."""
    for _, view in found(files, selection):
        yield view


def found(files: Files, selection: Selection) -> Iterator[tuple[int, View]]:
    """The units that are selected, with their places."""
    id = selection.id.upper() if selection.id is not None else None
    for segment in segments_in(files.segments):
        locked: list[tuple[int, int]] | None = None
        for place, octets, head in messages(files.segments, segment, _ignore):
            if id not in (None, text_of(head.id)):
                continue
            if locked is None:
                locked = files.segments.locked(segment)
            for number in range(head.units):
                view = _view(octets, head, number, at=offset_of(place) + number, locked=locked)
                if view is not None and _is_wanted(view, selection):
                    yield place + number, view


def damaged(files: Files) -> list[Damaged]:
    """What was set aside, the oldest first."""
    entries = []
    for name in os.listdir(files.damaged.fd):
        try:
            stat = os.stat(name, dir_fd=files.damaged.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        entries.append(Damaged(name, stat.st_mtime, stat.st_size))
    return sorted(entries, key=lambda entry: entry.since)


def _view(
    octets: memoryview, head: Head, number: int, *, at: int, locked: list[tuple[int, int]]
) -> View | None:
    """One unit; None when it is finished, does not count yet, or cannot be read."""
    try:
        unit = head.unit(number)
        block = unit.block(octets)
        state = unit.state(block)
        condition = _PHASES.get(state.phase)
        if condition is None:
            return None
        if any(start <= at < end for start, end in locked):
            condition = Condition.ACTIVE
        return View(entry_of(head, unit, block, state), condition, state.next_attempt, state.reason)
    except Damage:
        return None


def _is_wanted(view: View, selection: Selection) -> bool:
    return view.condition in selection.conditions and selection.wants(view.entry)


def _ignore(place: int, damage: Damage) -> None:
    """Whoever only looks leaves it to the deliverers."""
