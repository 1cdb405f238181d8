"""Leaves those alone that fail, longer each time, and asks with one attempt whether they are back.

A key is a host's address or a destination's domain. Its states:

    closed     nothing known against it; not kept in memory
    open       it failed; nobody may try until its time
    probing    its time has come, and one attempt is under way; the others are held until it ends

It does not fail. Times are in the clock's seconds; nothing survives the process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_JITTER = 0.1
_DOUBLED_MOST = 100
# Seconds until those ask again who are held while one probes.
_ASK_AGAIN = 5.0
# A failure is believed in for so long, whoever asks for another attempt.
_FRESH = 1.0
# A probe that was never heard of again is believed in no longer than this.
_PROBE = 3600.0


@dataclass(frozen=True, slots=True)
class Held:
    """Why something is not tried now, and when to ask again."""

    until: float
    reason: str


@dataclass(slots=True)
class _Failing:
    failures: int
    until: float
    reason: str
    probe_ends: float = 0.0
    failed: float = -inf  # when it did last


class BackOff(Generic[Key]):
    """What is known against whom; shared by the threads of a process."""

    def __init__(
        self,
        first: float,
        most: float,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Back off for `first` seconds, then twice as long each time, up to `most`."""
        self._first = first
        self._most = most
        self._clock = clock
        self._random = random
        self._failing: dict[Key, _Failing] = {}
        self._lock = Lock()
        self._asked = -inf  # when somebody last wanted an attempt for all

    def look(self, key: Key) -> Held | None:
        """Whether an attempt would be held; changes nothing."""
        failing = self._failing.get(key)
        return None if failing is None else self._hold(failing, self._clock())

    def enter(self, key: Key) -> Held | None:
        """Ask for an attempt. It ends with one of `failed`, `succeeded` and `left`."""
        if key not in self._failing:
            return None
        with self._lock:
            failing = self._failing.get(key)
            if failing is None:
                return None
            held = self._hold(failing, self._clock())
            if held is None:
                failing.probe_ends = self._clock() + _PROBE
            return held

    def failed(self, key: Key, reason: str) -> None:
        """It could not be reached, or was of no use."""
        with self._lock:
            now = self._clock()
            failing = self._failing.get(key)
            if failing is None:
                failing = self._failing[key] = _Failing(0, now, reason)
            failing.reason = reason
            failing.probe_ends = 0.0
            failing.failed = now
            # Those that were under way when the first of them failed count as one.
            if now >= failing.until:
                seconds = min(self._first * 2.0**failing.failures, self._most)
                failing.failures = min(failing.failures + 1, _DOUBLED_MOST)
                failing.until = now + seconds * (1 + _JITTER * (2 * self._random() - 1))

    def succeeded(self, key: Key) -> None:
        """It is there."""
        if key in self._failing:
            with self._lock:
                self._failing.pop(key, None)

    def left(self, key: Key) -> None:
        """An attempt ended and showed nothing."""
        if key in self._failing:
            with self._lock:
                if failing := self._failing.get(key):
                    failing.probe_ends = 0.0

    def hold(self, key: Key, held: Held) -> None:
        """Nobody need ask before then, for a reason that is not the key's own."""
        with self._lock:
            failing = self._failing.setdefault(key, _Failing(0, 0.0, held.reason))
            failing.until = max(failing.until, held.until)
            failing.probe_ends = 0.0

    def ask(self, key: Key, asked: float) -> None:
        """Somebody who may know better wants an attempt, and said so at this time.

        One is let through, unless it has failed since.
        """
        with self._lock:
            if failing := self._failing.get(key):
                _let_through(failing, asked)

    def ask_all(self, asked: float) -> None:
        """As `ask`, for all keys."""
        if asked - self._asked < _FRESH:
            return
        with self._lock:
            self._asked = asked
            for failing in self._failing.values():
                _let_through(failing, asked)

    def held(self) -> list[tuple[Key, Held]]:
        """All that may not be tried now."""
        now = self._clock()
        with self._lock:
            return [
                (key, Held(failing.until, failing.reason))
                for key, failing in self._failing.items()
                if failing.until > now
            ]

    def tidy(self) -> None:
        """Forget what nobody has asked for in a long time."""
        with self._lock:
            oldest = self._clock() - 2 * self._most
            for key, failing in list(self._failing.items()):
                if max(failing.until, failing.probe_ends) < oldest:
                    del self._failing[key]

    def _hold(self, failing: _Failing, now: float) -> Held | None:
        if now < failing.until:
            return Held(failing.until, failing.reason)
        if now < failing.probe_ends:
            return Held(now + _ASK_AGAIN, failing.reason)
        return None


def _let_through(failing: _Failing, asked: float) -> None:
    if asked - failing.failed >= _FRESH:
        failing.until = min(failing.until, asked)
