"""A worker process, from the fork to its end.

Its main thread does no work: it waits for signals and for the death of the master, shows that it
lives, and sees to the core it keeps to. The work is in the threads of the `Body`. TERM drains, QUIT
stops now, USR1 reopens the log; HUP, INT and the rest are the master's business and ignored, since
a terminal sends them to everybody.

The master's death shows as the end of a pipe whose other end only the master holds. The worker then
drains as after TERM, within a time of its own since nobody else keeps it.

`run` never returns and never unwinds into the code of the master: it ends with `os._exit`. A worker
that cannot start exits with BOOT_FAILED and says why in its report.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from setproctitle import setproctitle

from pfsmtp.process.cores import Core
from pfsmtp.process.errors import BOOT_FAILED, BUG, ServiceError
from pfsmtp.process.memory import keep_freed
from pfsmtp.process.privileges import Identity, relinquish
from pfsmtp.process.service import Body, Context, EventLog, Role, Timing
from pfsmtp.process.shared import Heartbeat
from pfsmtp.process.signals import SignalPipe, unblock

READY = b"+"
"""First octet of the report of a worker that is ready; in any other report, the reason follows."""
REFUSED = b"-"

_ACTED_UPON = ("term", "quit", "usr1")
_IGNORED = ("hup", "int", "ttin", "ttou", "usr2")
_SHORTEST_PAUSE = 0.005  # seconds between two looks at a body that drains; doubled each time
_LONGEST_PAUSE = 0.25


@dataclass(frozen=True, slots=True)
class Birth:
    """What a child takes with it from the master."""

    context: Context
    role: Role
    identity: Identity | None
    heartbeat: Heartbeat
    life: int  # read end of the pipe that ends with the master
    report: int  # write end of the pipe that says whether it could start
    close_inherited: Callable[[], None]


def run(birth: Birth, *, log: EventLog, timing: Timing) -> NoReturn:
    """Be a worker, in a child that was forked with signals blocked."""
    status = BUG
    try:
        status = _live(birth, log=log, timing=timing)
    except BaseException as error:
        # Whatever it is, it must not unwind into the master's frames below.
        log.bug("worker-bug", error, worker=birth.context.name, pid=os.getpid())
    finally:
        os._exit(status)


def _live(birth: Birth, *, log: EventLog, timing: Timing) -> int:
    """Return the exit status, at the end of a worker's life."""
    signals = SignalPipe(_ACTED_UPON, ignored=_IGNORED)
    birth.close_inherited()
    unblock()
    setproctitle(_title(birth.context, "starting"))
    core = _own_core(birth)
    keep_freed()
    body = _boot(birth, log)
    if body is None:
        return BOOT_FAILED
    _MainLoop(birth, body, signals, core, log=log, timing=timing).run()
    return 0


def _own_core(birth: Birth) -> Core | None:
    choose = birth.role.core
    if choose is None:
        return None
    core = Core(choose(birth.context.index))
    core.settle()
    return core


def _boot(birth: Birth, log: EventLog) -> Body | None:
    """Become who we are to be and start the body; None, after a report, if that cannot be."""
    try:
        if birth.identity is not None:
            birth.identity.assume()
        relinquish()
        body = birth.role.make(birth.context)
        body.start()
    except (ServiceError, OSError) as error:
        _report(birth, REFUSED + str(error).encode("utf-8", "replace"))
        return None
    except Exception as error:
        log.bug("worker-bug", error, worker=birth.context.name, pid=os.getpid())
        _report(birth, REFUSED + f"bug: {error!r}".encode("utf-8", "replace"))
        return None
    _report(birth, READY)
    return body


def _report(birth: Birth, octets: bytes) -> None:
    # When there is no master to read it, the main loop will know.
    with suppress(BrokenPipeError):
        os.write(birth.report, octets[: select.PIPE_BUF])
    os.close(birth.report)


def _title(context: Context, words: str) -> str:
    return f"pfsmtp: {context.name} generation {context.generation} {words}"


class _MainLoop:
    """The main thread's round: beat, show, wait for a signal or the master's end, act."""

    def __init__(
        self,
        birth: Birth,
        body: Body,
        signals: SignalPipe,
        core: Core | None,
        *,
        log: EventLog,
        timing: Timing,
    ) -> None:
        self._birth = birth
        self._body = body
        self._signals = signals
        self._core = core
        self._log = log
        self._timing = timing
        self._shown = ""
        self._draining = False
        self._pause = timing.beat
        self._deadline: float | None = None
        self._stopped = False
        self._poll = select.poll()
        self._poll.register(signals.fileno(), select.POLLIN)
        self._poll.register(birth.life, select.POLLIN)

    def run(self) -> None:
        """Go round until there is nothing left to do."""
        while not self._over(time.monotonic()):
            self._show()
            if self._core is not None and (taken := self._core.look()) is not None:
                self._body.core_taken(taken)
            for fd, _ in self._poll.poll(self._pause * 1000):
                if fd == self._birth.life:
                    self._master_died()
                else:
                    self._handle_signals()

    def handle_term(self) -> None:
        """Finish what has been begun, take nothing new."""
        if not self._draining:
            self._draining = True
            self._pause = _SHORTEST_PAUSE
            self._body.drain()

    def handle_quit(self) -> None:
        """Leave now."""
        if not self._stopped:
            self._stopped = True
            self._body.stop()

    def handle_usr1(self) -> None:
        """Write to a new log file."""
        try:
            self._body.reopen()
        except OSError as error:
            self._log.event("reopen-failed", worker=self._birth.context.name, reason=str(error))

    def _handle_signals(self) -> None:
        for name in self._signals.read():
            getattr(self, f"handle_{name}")()

    def _master_died(self) -> None:
        self._poll.unregister(self._birth.life)
        self._deadline = time.monotonic() + self._timing.stop
        self._log.event("master-died", worker=self._birth.context.name, pid=os.getpid())
        self.handle_term()

    def _over(self, now: float) -> bool:
        self._birth.heartbeat.beat(now)
        if self._stopped:
            return True
        if not self._draining:
            return False
        if self._body.finished():
            return True
        if self._deadline is not None and now > self._deadline:
            self.handle_quit()
            return True
        # Soon after the drain began it is likely to be over soon.
        self._pause = min(self._pause * 2, _LONGEST_PAUSE, self._timing.beat)
        return False

    def _show(self) -> None:
        words = self._body.title()
        if self._draining:
            words = f"draining {words}"
        if words != self._shown:
            self._shown = words
            setproctitle(_title(self._birth.context, words))
