"""How much may go to a destination at a time: attempts under way, new connections, back-off.

A destination that was never seen starts with a few attempts at a time, one that failed with one;
each attempt that reaches it allows one more, up to the limit. So a host that comes back gets its
mail at a rate that grows with what it takes.

It does not fail. Times are in the clock's seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Lock

from pfsmtp.delivery.relay.backoff import BackOff, Held

_AT_FIRST = 5
# Seconds until whoever found no room in time may ask again.
_ASK_AGAIN = 5.0
# Seconds until a destination to which nothing goes is forgotten.
_FORGET = 600.0


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
        self._room = Condition(self._lock)
        self._waiting = 0

    def look(self, domain: str) -> Held | None:
        """Whether the destination is left alone, and until when."""
        return self._back_off.look(domain)

    def room(self, domain: str) -> int:
        """How many attempts may be made beside those under way."""
        traffic = self._traffic.get(domain)
        return self._limit if traffic is None else traffic.allowed - traffic.running

    def held(self) -> list[tuple[str, Held]]:
        """The destinations that are left alone for now, but for those that are only busy."""
        return self._back_off.held()

    def ask(self, domain: str, asked: float) -> None:
        """The operator wants an attempt, and said so at this time."""
        self._back_off.ask(domain, asked)

    def enter(self, domain: str, patience: float) -> Held | None:
        """Ask for an attempt; None: go on, and `leave` at the end.

        Where only those under way stand against it, wait for room for `patience` seconds.
        """
        with self._lock:
            traffic = self._traffic.get(domain)
            if traffic is None:
                traffic = self._traffic[domain] = _Traffic(min(_AT_FIRST, self._limit))
            if traffic.running >= traffic.allowed and not self._wait_for_room(traffic, patience):
                again = self._clock() + _ASK_AGAIN
                return Held(again, "as much as may be is under way to this destination")
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
        self,
        domain: str,
        reached: bool | None,
        *,
        reason: str = "",
        held: Held | None = None,
    ) -> None:
        """End an attempt; `reached` None when it showed nothing about the host.

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
            if self._waiting:
                self._room.notify_all()
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
            oldest = self._clock() - _FORGET
            for domain, traffic in list(self._traffic.items()):
                if not traffic.running and traffic.used < oldest:
                    del self._traffic[domain]

    def _wait_for_room(self, traffic: _Traffic, patience: float) -> bool:
        self._waiting += 1
        try:
            return self._room.wait_for(lambda: traffic.running < traffic.allowed, patience)
        finally:
            self._waiting -= 1
