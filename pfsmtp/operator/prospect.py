"""What is to become of a unit: why it waits, when it is tried next, and when it is given up.

What the queue has on disk is not all there is to it: a running server leaves a destination alone
that fails, and all its mail with it; when no server runs, nothing is tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pfsmtp.config import Outbound
from pfsmtp.mailqueue import guard
from pfsmtp.mailqueue.entry import Condition, View
from pfsmtp.mailqueue.resting import Resting, read
from pfsmtp.mailqueue.schedule import Schedule
from pfsmtp.operator.reason import NOT_TRIED, why


@dataclass(frozen=True, slots=True)
class Prospect:
    """Of one unit. Times are in Unix seconds."""

    why: str  # not yet fit for a terminal
    next_attempt: float | None  # None while it is held, or at work
    expires: float


class Prospects:
    """Those of all units in the queue of one configuration."""

    def __init__(self, config: Outbound, *, now: float) -> None:
        """`now` is in Unix seconds."""
        directory = config.queue.directory
        self.server_runs = server_runs(directory)
        self._schedule = Schedule(config.schedule, lambda: 0.5)
        self._smart_host = config.relay.host.name if config.relay.host else None
        self._resting = read(directory, now) if self.server_runs else {}

    def of(self, view: View) -> Prospect:
        entry = view.entry
        expires = self._schedule.expires_at(
            entry.queued_at, null_path=entry.envelope.reverse_path is None
        )
        if view.condition is not Condition.WAITING:
            return Prospect(why(view), None, expires)
        resting = self._resting.get(self._smart_host or entry.domain)
        if resting is None or resting.until <= view.next_attempt:
            return Prospect(why(view), view.next_attempt, expires)
        return Prospect(_why_not_now(view, resting), resting.until, expires)


def server_runs(directory: Path) -> bool:
    """Whether the server of this queue runs; taken for granted where that cannot be seen."""
    try:
        return guard.holder(directory) is not None
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _why_not_now(view: View, resting: Resting) -> str:
    """What was said of it itself counts more than what was said of others."""
    own = why(view)
    return f"{own}: {resting.reason}" if own == NOT_TRIED else own
