"""Doing something with messages: `queue retry`, `hold`, `release`, `delete` and `bounce`.

What is done is on disk when the command ends. A server that runs hears of it at once; without one,
the next does the rest. A message under attempt is dealt with when the attempt ends. That something
cannot be noted for the server's log undoes nothing: it is done, and the operator is told.

Raises QueueError, and OSError when the queue cannot be written to.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pfsmtp.config import Outbound
from pfsmtp.mailqueue import deeds
from pfsmtp.mailqueue.backend import EventLog
from pfsmtp.mailqueue.entry import Selection, Wish
from pfsmtp.mailqueue.spool import Spool
from pfsmtp.mailqueue.window import Window
from pfsmtp.operator import arguments
from pfsmtp.operator.output import Output
from pfsmtp.operator.prospect import server_runs
from pfsmtp.operator.text import plural
from pfsmtp.operator.trouble import QueueError, no_such, tell

_DONE = {
    Wish.RETRY: "due now",
    Wish.HOLD: "held",
    Wish.RELEASE: "released",
    Wish.DELETE: "deleted",
    Wish.BOUNCE: "given up",
}
_COMPLETED_BY_SERVER = (Wish.RETRY, Wish.RELEASE, Wish.BOUNCE)


class Steering:
    """The queue of one configuration; `now` is in Unix seconds."""

    def __init__(self, config: Outbound, output: Output, *, now: float) -> None:
        self._directory = config.queue.directory
        self._output = output
        self._now = now

    def carry_out(self, wish: Wish, options: argparse.Namespace) -> None:
        """Do it with all that `options` select; IDs that are not there are an error at the end."""
        selections = arguments.selections(options, wish, self._now)
        log = _Unnoted()
        with self._spool(log) as spool:
            counts = [spool.carry_out(wish, each) if spool else 0 for each in selections]
            if any(counts) or not options.ids:
                self._report(wish, sum(counts))
            errors = [
                self._why_not(spool, selection.id, wish)
                for selection, count in zip(selections, counts, strict=True)
                if selection.id is not None and not count
            ]
        if log.reason:
            self._output.flush()
            tell(f"what was done cannot be noted for the server's log: {log.reason}")
        if errors:
            raise QueueError("; ".join(errors))

    @contextmanager
    def _spool(self, log: EventLog) -> Iterator[Spool | None]:
        """The queue, as one more process that changes it; None if no mail was ever queued."""
        if not _is_queue(self._directory):
            yield None
            return
        spool = Spool(
            self._directory,
            deliverers=None,  # those that are there
            log=log,
            number=lambda: 0,  # no message is put
        )
        with closing(spool):
            yield spool

    def _report(self, wish: Wish, count: int) -> None:
        if self._output.json:
            self._output.objects([{"command": wish.value, "count": count}])
            return
        later = ""
        if count and wish in _COMPLETED_BY_SERVER and not server_runs(self._directory):
            later = "; the server is not running, and will go on with it when it is"
        self._output.lines([f"{plural(count)} {_DONE[wish]}{later}"])

    def _why_not(self, spool: Spool | None, id: str, wish: Wish) -> str:
        if spool is None or not any(spool.views(Selection(id=id))):
            return no_such(id)
        if wish is Wish.RELEASE:
            return f"message {id} is not held"
        return f"message {id} is there, but is not what the filters mean"


def _is_queue(directory: Path) -> bool:
    """Whether there is one; who only steers makes none. Raises OSError."""
    try:
        Window(directory).close()
    except FileNotFoundError:
        return False
    return True


class _Unnoted:
    """Remembers that something was not noted; all else that the queue tells is in the answer."""

    reason = ""

    def event(self, name: str, /, **fields: object) -> None:
        if name == deeds.UNNOTED:
            self.reason = str(fields["reason"])
