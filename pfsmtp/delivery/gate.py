"""How much may go to a destination at a time: attempts under way, new connections, back-off.

A destination that was never seen starts with a few attempts at a time, one that failed with one;
each attempt that reaches it allows one more, up to the limit. So a host that comes back gets its
mail at a rate that grows with what it takes.

It does not fail. Times are in the clock's seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from pfsmtp.delivery.backoff import BackOff, Held

_AT_FIRST = 5
_RECHECK = 1.0


@dataclass(slots=True)
class _Traffic:
    allowed: int
    running: int = 0
    next_connection: float = 0.0
    used: float = 0.0


class Gate:
    """What is under way to which destination; shared by the threads of a process."""

    def __init__(
        self,
        back_off: BackOff[str],
        *,
        limit: int,
        per_minute: int,
        clock: Callable[[], float],
    ) -> None:
        """Allow `limit` attempts at a time, and so many new connections `per_minute` (0: any)."""
        self._back_off = back_off
        self._limit = limit
        self._spacing = 60.0 / per_minute if per_minute else 0.0
        self._clock = clock
        self._traffic: dict[str, _Traffic] = {}
        self._lock = Lock()

    def look(self, domain: str) -> Held | None:
        """Whether an attempt would be held; changes nothing."""
        traffic = self._traffic.get(domain)
        if traffic is not None and traffic.running >= traffic.allowed:
            return self._busy()
        return self._back_off.look(domain)

    def enter(self, domain: str) -> Held | None:
        """Ask for an attempt; None: go on, and `leave` at the end."""
        with self._lock:
            traffic = self._traffic.get(domain)
            if traffic is None:
                traffic = self._traffic[domain] = _Traffic(min(_AT_FIRST, self._limit))
            if traffic.running >= traffic.allowed:
                return self._busy()
            held = self._back_off.enter(domain)
            if held is None:
                traffic.running += 1
            return held

    def connect(self, domain: str) -> Held | None:
        """Ask for a new connection, in an attempt."""
        if not self._spacing:
            return None
        with self._lock:
            traffic = self._traffic[domain]
            now = self._clock()
            if now < traffic.next_connection:
                return Held(traffic.next_connection, "the limit of new connections is reached")
            traffic.next_connection = now + self._spacing
            return None

    def leave(
        self, domain: str, reached: bool | None, *, reason: str = "", held: Held | None = None
    ) -> None:
        """End an attempt; `reached` None when it showed nothing about the destination.

        `held` is set when it could not be made for now.
        """
        with self._lock:
            traffic = self._traffic[domain]
            traffic.running -= 1
            traffic.used = self._clock()
            if reached:
                traffic.allowed = min(traffic.allowed + 1, self._limit)
            elif reached is False:
                traffic.allowed = 1
        if reached:
            self._back_off.succeeded(domain)
        elif reached is False:
            self._back_off.failed(domain, reason)
        elif held is not None:
            self._back_off.hold(domain, held)
        else:
            self._back_off.left(domain)

    def tidy(self) -> None:
        """Forget destinations that nothing went to in a while."""
        self._back_off.tidy()
        with self._lock:
            oldest = self._clock() - 600.0
            for domain, traffic in list(self._traffic.items()):
                if not traffic.running and traffic.used < oldest:
                    del self._traffic[domain]

    def _busy(self) -> Held:
        return Held(self._clock() + _RECHECK, "as much as may be is under way to this destination")
