"""Messages that wait in line for a destination to which as much as may be is under way.

They wait for no time and cost no thread: whoever comes back from an attempt goes on with the first
in line, so that a hundred thousand messages for one destination do not ask again and again.

This rests on one rule: each thread that has made an attempt asks `next_after`. A message is put in
line only while an attempt is under way, so there is somebody who will.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from pfsmtp.delivery.relay import Relay
from pfsmtp.delivery.relay.backoff import Held
from pfsmtp.mailqueue.backend import Unit


class Lines:
    """The lines of one deliverer. Safe among threads."""

    def __init__(self, relay: Relay, give_back: Callable[[Unit, Held | None], None]) -> None:
        """`give_back` returns a unit to the queue until it is no longer held, or for now."""
        self._relay = relay
        self._give_back = give_back
        self._lines: dict[str, deque[Unit]] = {}  # by destination
        self._lock = threading.Lock()
        self._closed = False

    def join(self, unit: Unit) -> bool:
        """Whether the unit has to wait, and now stands in line; if not, it may be tried."""
        destination = self._relay.destination(unit.domain)
        with self._lock:
            if self._relay.room(destination) > 0 or self._closed:
                return False
            self._lines.setdefault(destination, deque()).append(unit)
            return True

    def next_after(self, unit: Unit) -> Unit | None:
        """The first in line for whoever has tried this unit; None when nothing is to be done.

        Where there is room for more attempts than that, another unit goes back to the queue, and
        so to another thread; where the destination is left alone now, all of them do.
        """
        destination = self._relay.destination(unit.domain)
        with self._lock:
            line = self._lines.get(destination)
            if not line:
                return None
            held = self._relay.look(unit.domain)
            room = self._relay.room(destination)
            if held is not None:
                self._dissolve(destination, held)
            if held is not None or room <= 0:
                return None
            following = line.popleft()
            if line and room > 1:
                self._give_back(line.popleft(), None)
            if not line:
                del self._lines[destination]
            return following

    def close(self) -> None:
        """Give all units back; nobody stands in line from now on."""
        with self._lock:
            self._closed = True
            for destination in tuple(self._lines):
                self._dissolve(destination, None)

    def _dissolve(self, destination: str, held: Held | None) -> None:
        for unit in self._lines.pop(destination):
            self._give_back(unit, held)
