"""Which of the workers goes first at the next connection (docs/decisions/0012).

Few connections with a small message each cost less in one worker than spread over all: its threads
share more of what they wait for, and another core stays free of it. So the first worker goes before
the others while that is how it is; else each takes its turn. It is the first's alone to say, and
nothing is shared: the others take their turn in any case.
"""

from __future__ import annotations

from pfsmtp.process.service import Context

MOST = 16
"""Connections that are open at a time; above, a worker has enough that share what they wait for."""
SMALL = 32 << 10
"""Octets that are as much work as a message more."""

_LIGHT = 2.0  # messages that a connection brings on the average, less than that
_MEMORY = 16  # connections that the average goes back, about
_FULL = 0.97  # of its time a core was taken
_REST = 30  # times that the core is looked at, until it is tried again


class Precedence:
    """Whether this worker goes first, by what its connections have brought, and by its core."""

    def __init__(self, context: Context) -> None:
        self._alone = context.count == 1
        self._may = context.index == 0
        self._brought = 2 * _LIGHT  # until it is known
        self._rest: int | None = None  # times left; None: who keeps to no core has no precedence

    def holds(self, connections: int) -> bool:
        """Whether it goes first, with so many open."""
        if self._alone:
            return True
        return self._may and self._rest == 0 and connections < MOST and self._brought < _LIGHT

    def ended(self, messages: int, octets: int) -> None:
        """A connection has ended, which brought so much."""
        # Threads that do so at the same moment may count as one.
        self._brought += (messages + octets / SMALL - self._brought) / _MEMORY

    def core_taken(self, share: float) -> None:
        """The core was taken, by whomever, for this share of its time since it was looked at last.

        When it was full, all take turns for a while.
        """
        self._rest = _REST if share >= _FULL else max(0, (self._rest or 0) - 1)
