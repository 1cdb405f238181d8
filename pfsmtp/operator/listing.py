"""The queue as a table for people: two or three lines for each message to each destination.

It streams: nothing is kept of what was shown but the counts. Columns are made for 80, and what is
wide gets the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pfsmtp.mailqueue.entry import Damaged, Entry, View
from pfsmtp.operator.prospect import Prospect, Prospects
from pfsmtp.operator.record import path_text
from pfsmtp.operator.text import fit, past, plural, size, span, until, visible, width

_INDENT = "    "
_COLUMNS = "{id:16}  {state:7}  {age:>5}  {size:>5}  {tries:>5}  {next:>5}  {until:>5}  {to}"
_HEADING = _COLUMNS.format(
    id="ID",
    state="STATE",
    age="AGE",
    size="SIZE",
    tries="TRIES",
    next="NEXT",
    until="UNTIL",
    to="DESTINATION",
)
NOT_RUNNING = "; the server is not running"

_MOST_SHOWN = 5
"""Recipients that are named at most."""


def table(
    views: Iterable[View], prospects: Prospects, *, now: float, columns: int
) -> Iterator[str]:
    """The lines of the table, with a last one that counts."""
    count = octets = 0
    for view in views:
        if not count:
            yield _HEADING
        count += 1
        octets += view.entry.size
        yield from _rows(view, prospects.of(view), now=now, columns=columns)
    if not count:
        yield "no messages"
        return
    yield f"{plural(count)}, {size(octets)}{'' if prospects.server_runs else NOT_RUNNING}"


def damaged_lines(damaged: Iterable[Damaged], directory: Path, *, now: float) -> Iterator[str]:
    """What was set aside, with where it is."""
    for each in damaged:
        path = visible(path_text(directory / each.name))
        yield f"damaged, set aside {past(each.since, now)}: {path}, {size(each.size)}"


def sender_of(entry: Entry) -> str:
    """The reverse-path for people, not yet fit for a terminal."""
    sender = entry.envelope.reverse_path
    return "<>" if sender is None else str(sender)


def _rows(view: View, prospect: Prospect, *, now: float, columns: int) -> Iterator[str]:
    entry = view.entry
    row = _COLUMNS.format(
        id=entry.id,
        state=view.condition.value,
        age=span(now - entry.queued_at),
        size=size(entry.size),
        tries=entry.attempts,
        next="-" if prospect.next_attempt is None else until(prospect.next_attempt, now),
        until=until(prospect.expires, now),
        to=visible(entry.domain),
    )
    yield fit(row, columns)
    sender = f"{_INDENT}from {visible(sender_of(entry))}"
    yield fit(sender + _recipients(entry, columns - width(sender)), columns)
    yield fit(f"{_INDENT}{visible(prospect.why)}", columns)


def _recipients(entry: Entry, columns: int) -> str:
    """Those who still wait for it, as many as there is room for; one at least."""
    names = [visible(str(each.recipient.mailbox)) for each in entry.addressees if each.pending]
    if not names:
        return ""
    shown = min(len(names), _MOST_SHOWN)
    while True:
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        text = f" to {', '.join(names[:shown])}{more}"
        if shown == 1 or width(text) <= columns:
            return text
        shown -= 1
