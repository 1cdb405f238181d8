"""The queue by destination: how much waits for each, since when, and what was said last.

Goes once through all units and keeps a few numbers for each destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pfsmtp.mailqueue.entry import Condition, View
from pfsmtp.operator.listing import NOT_RUNNING
from pfsmtp.operator.prospect import Prospect, Prospects
from pfsmtp.operator.record import Object, stamp
from pfsmtp.operator.text import fit, pad, plural, size, span, until, visible, width

_NUMBERS = "  {count:>7}  {held:>6}  {size:>5}  {oldest:>6}  {next:>5}  "
_HEADINGS = _NUMBERS.format(count="COUNT", held="HELD", size="SIZE", oldest="OLDEST", next="NEXT")
_NARROWEST, _WIDEST = len("DESTINATION"), 32


@dataclass(slots=True)
class Destination:
    """What waits for one domain. Times are in Unix seconds."""

    domain: str
    oldest: float
    count: int = 0
    held: int = 0
    active: int = 0
    octets: int = 0
    next_attempt: float | None = None
    said_at: float = -1.0
    reason: str = ""  # of the unit that was tried last

    def add(self, view: View, prospect: Prospect) -> None:
        """Count a unit in."""
        entry = view.entry
        self.count += 1
        self.octets += entry.size
        self.oldest = min(self.oldest, entry.queued_at)
        match view.condition:
            case Condition.HELD:
                self.held += 1
            case Condition.ACTIVE:
                self.active += 1
        due = prospect.next_attempt
        if due is not None and (self.next_attempt is None or due < self.next_attempt):
            self.next_attempt = due
        said_at = entry.tried_at or 0.0
        if said_at > self.said_at:
            self.said_at = said_at
            self.reason = prospect.why


def by_destination(views: Iterable[View], prospects: Prospects) -> list[Destination]:
    """The destinations, those with the most messages first."""
    found: dict[str, Destination] = {}
    for view in views:
        domain = view.entry.domain
        destination = found.get(domain)
        if destination is None:
            destination = found[domain] = Destination(domain, view.entry.queued_at)
        destination.add(view, prospects.of(view))
    return sorted(found.values(), key=lambda each: (-each.count, each.oldest, each.domain))


def of_destination(destination: Destination) -> Object:
    """One destination, for programs."""
    return {
        "destination": destination.domain,
        "count": destination.count,
        "held": destination.held,
        "active": destination.active,
        "size": destination.octets,
        "oldest": stamp(destination.oldest),
        "next": stamp(destination.next_attempt),
        "why": destination.reason,
    }


def table(
    destinations: list[Destination], prospects: Prospects, *, now: float, columns: int
) -> Iterator[str]:
    """The lines of the table, the first of which counts all."""
    if not destinations:
        yield "no messages"
        return
    yield _totals(destinations) + ("" if prospects.server_runs else NOT_RUNNING)
    names = [visible(each.domain) for each in destinations]
    widest = min(max(_NARROWEST, *map(width, names)), _WIDEST)
    yield fit(pad("DESTINATION", widest) + _HEADINGS + "LAST REASON", columns)
    for name, each in zip(names, destinations, strict=True):
        numbers = _NUMBERS.format(
            count=each.count,
            held=each.held or "-",
            size=size(each.octets),
            oldest=span(now - each.oldest),
            next="-" if each.next_attempt is None else until(each.next_attempt, now),
        )
        yield fit(pad(name, widest) + numbers + visible(each.reason), columns)


def _totals(destinations: list[Destination]) -> str:
    count = sum(each.count for each in destinations)
    octets = sum(each.octets for each in destinations)
    held = sum(each.held for each in destinations)
    active = sum(each.active for each in destinations)
    parts = [
        f"{plural(count)} for {plural(len(destinations), 'destination')}",
        size(octets),
        f"{held} held" if held else "",
        f"{plural(active, 'attempt')} under way" if active else "",
    ]
    return ", ".join(part for part in parts if part)
