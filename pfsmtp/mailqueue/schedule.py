"""When to try again, when to tell the sender that it takes longer, and when to give up.

Pure functions of the times and counts they are given; all times are in Unix seconds. What is
then done is for the deliverer to do, and where the times are kept for the queue.

RFC 5321 §4.5.4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pfsmtp import config


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times of one configuration; `random` gives numbers from 0 up to 1."""

    settings: config.Schedule
    random: Callable[[], float]

    def next_attempt(
        self, queued_at: float, attempts: int, *, now: float, null_path: bool = False
    ) -> float | None:
        """Return when to try again after `attempts` attempts, or None to give up and bounce.

        RFC 5321 §4.5.4.1: spaced out as the message ages, given up after 4 to 5 days. The last
        attempt is made at the very end, so that no host is too late for it that still comes back
        in time. A clock that was set back makes nothing wait longer than its interval.
        """
        end = self.expires_at(queued_at, null_path=null_path)
        if now >= end:
            return None
        return min(now + self._interval(attempts), end)

    def expires_at(self, queued_at: float, *, null_path: bool = False) -> float:
        """Return when it is given up; a message from the null path, a bounce, is sooner."""
        settings = self.settings
        return queued_at + (settings.expire_bounce if null_path else settings.expire)

    def delay_is_due(
        self, queued_at: float, *, now: float, reported: bool, null_path: bool = False
    ) -> bool:
        """Whether the sender is now to hear of the delay: once, and never the null path."""
        after = self.settings.delay_notice
        return after > 0 and not reported and not null_path and now - queued_at >= after

    def _interval(self, attempts: int) -> float:
        retries = self.settings.retries
        interval = retries[min(max(attempts, 1), len(retries)) - 1]
        # What failed together is not tried again together.
        return interval * (1 + self.settings.jitter * (2 * self.random() - 1))
