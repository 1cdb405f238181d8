"""The master: binds through its service, forks, watches, replaces; and never serves anyone itself.

It has one thread for life, since it forks for life. All it does is done in its round: wait for a
signal, a report or the time; act on what came; bring every generation one step further. Nothing in
a round waits for a worker.

At most one generation serves and one boots; those before drain. HUP loads a new one: while it
cannot be loaded or booted, the one that serves goes on. TERM and INT drain and stop, a second one
stops now, as QUIT does. USR1 reopens the logs everywhere, TTIN and TTOU add and take a worker of
the first role until the next reload. A worker that dies is replaced at once, later and later if it
keeps dying; who keeps failing is told of in the log and to the service manager. If that watches
over us, it gets a sign of life for as long as it would not help to start everything anew.

If the master itself fails, or is killed, its workers notice, finish and leave.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Callable
from functools import partial

from setproctitle import setproctitle

from pfsmtp.process.crew import Crew, Phase
from pfsmtp.process.errors import BOOT_FAILED, BUG, LOAD_FAILED, ServiceError
from pfsmtp.process.nursery import Nursery
from pfsmtp.process.service import EventLog, Generation, Service, Timing
from pfsmtp.process.signals import SignalPipe
from pfsmtp.process.systemd import Notifier

_ACTED_UPON = ("hup", "int", "term", "quit", "usr1", "ttin", "ttou", "chld")
_IGNORED = ("usr2",)
_DRAINING_LIMIT = 8  # generations; with more, a reload waits until the oldest has gone


class Master:
    """Runs a service until it is told to stop."""

    def __init__(
        self,
        service: Service,
        log: EventLog,
        *,
        name: str,
        notifier: Notifier,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the signals of this process over; only in its main thread."""
        self.failure = ""
        """Why `run` returned something other than 0, for people to read."""
        self._service = service
        self._log = log
        self._name = name
        self._notifier = notifier
        self._timing = timing or Timing()
        self._clock = clock
        self._signals = SignalPipe(_ACTED_UPON, ignored=_IGNORED)
        self._nursery = Nursery(
            self._crews, self._signals, log=log, timing=self._timing, clock=clock
        )
        self._current: Crew | None = None
        self._candidate: Crew | None = None
        self._draining: list[Crew] = []
        self._last_number = 0
        self._reload_wanted = False
        self._reload_not_before = -math.inf
        self._stopping = False
        self._status = 0
        self._standing = ""  # of the generation that serves
        self._failing = ""  # who of it does not serve
        # The first round can come late without anything being wrong.
        self._next_tick = self._last_round = self._watched_since = clock()

    def run(self) -> int:
        """Serve until stopped; return the exit status."""
        self._log.event("master-starting", role=self._name, pid=os.getpid())
        self._show("starting")
        try:
            generation = self._load("start-failed")
            if generation is None:
                return LOAD_FAILED
            self._boot(generation)
            while not self._stopping or self._draining:
                self._round()
        except Exception as error:
            # The workers see us go, finish and leave.
            self._log.bug("master-bug", error)
            self.failure = f"bug: {error!r}"
            return BUG
        self._log.event("master-stopped", status=self._status)
        return self._status

    def handle_hup(self) -> None:
        """Reload, when it can be done; any number of HUPs until then are one."""
        self._reload_wanted = True

    def handle_term(self) -> None:
        """Finish what has been begun and stop; the second time, stop now."""
        if self._stopping:
            self.handle_quit()
            return
        self._log.event("stopping", within=self._timing.stop)
        self._stop(within=self._timing.stop)

    handle_int = handle_term

    def handle_quit(self) -> None:
        """Stop now."""
        self._log.event("stopping-now")
        self._stop(within=0.0)

    def handle_usr1(self) -> None:
        """Write to new log files, here and in all workers."""
        try:
            self._log.reopen()
        except OSError as error:
            self._log.event("reopen-failed", reason=str(error))
        for crew in self._crews():
            crew.signal(signal.SIGUSR1)

    def handle_ttin(self) -> None:
        """One worker more."""
        if self._current is not None:
            self._log.event("workers-wanted", count=self._current.add_seat())

    def handle_ttou(self) -> None:
        """One worker less."""
        if self._current is not None:
            count = self._current.remove_seat(self._clock())
            self._log.event("workers-wanted", count=count)

    def handle_chld(self) -> None:
        """Take leave of the workers that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._bury(pid, status)

    def _round(self) -> None:
        """Wait for something to happen, and see to it."""
        for name in self._wait():
            getattr(self, f"handle_{name}")()
        now = self._clock()
        self._notice_gap(now)
        for crew in self._crews():
            crew.greet()
            crew.watch(now, since=self._watched_since)
            crew.fill(now, self._nursery.spawn)
        self._settle(now)
        self._retire(now)
        if self._current is not None and self._may_reload(now):
            self._reload(self._current, now)
        if now >= self._next_tick:
            self._next_tick = now + min(self._timing.beat, self._notifier.every)
            self._tick(now)

    def _wait(self) -> list[str]:
        """Sleep until a signal, a report or the time; return the names of the signals."""
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        for crew in self._crews():
            for member in crew.reporting():
                assert member.report is not None
                poll.register(member.report, select.POLLIN)
        now = self._clock()
        due = min([self._next_tick, *(crew.next_due() for crew in self._crews())])
        if self._reload_wanted and self._reload_not_before > now:
            due = min(due, self._reload_not_before)
        poll.poll(max(due - now, 0.0) * 1000)
        return self._signals.read()

    def _notice_gap(self, now: float) -> None:
        """Hold no silence against the workers if we, and maybe they too, were stopped meanwhile."""
        if now - self._last_round > self._timing.stuck / 2:
            self._watched_since = now
        self._last_round = now

    def _tick(self, now: float) -> None:
        self._guard(self._service.tick)
        # Should a SIGCHLD ever get lost, this finds who it was about.
        self.handle_chld()
        crew = self._current
        if crew is not None:
            self._tell(crew.failing(now, since=self._watched_since))
        if crew is None or crew.is_sound(now, since=self._watched_since):
            self._notifier.alive(now)

    def _tell(self, failing: str) -> None:
        """Let it be known, when it changes, who does not serve."""
        if failing == self._failing:
            return
        if not self._failing:
            self._log.event("workers-failing", reason=failing)
        elif not failing:
            self._log.event("workers-recovered")
        self._failing = failing
        self._notifier.status(self._summary())

    def _ready(self, standing: str) -> None:
        self._standing = standing
        self._notifier.ready(self._summary())

    def _summary(self) -> str:
        return "; ".join(filter(None, (self._standing, self._failing)))

    def _load(self, event: str) -> Generation | None:
        try:
            return self._service.load()
        except ServiceError as error:
            reason = str(error)
        except Exception as error:
            self._log.bug("service-bug", error)
            reason = f"bug: {error!r}"
        self._log.event(event, reason=reason)
        self.failure = reason
        return None

    def _boot(self, generation: Generation) -> None:
        self._last_number += 1
        self._candidate = Crew(
            self._last_number, generation, log=self._log, timing=self._timing, begun=self._clock()
        )

    def _settle(self, now: float) -> None:
        """Let the generation that boots serve, or give it up."""
        candidate = self._candidate
        if candidate is None:
            return
        if candidate.failure:
            self._candidate = None
            self._abandon(candidate, now)
        elif candidate.all_ready():
            self._candidate = None
            self._promote(candidate, now)

    def _promote(self, crew: Crew, now: float) -> None:
        before, self._current = self._current, crew
        crew.phase = Phase.SERVING
        took = round(now - crew.begun, 3)
        self._show(f"generation {crew.number}")
        self._log.event(
            "generation-ready", generation=crew.number, workers=len(crew.seats), seconds=took
        )
        self._tell("")
        self._ready(f"generation {crew.number}")
        if before is not None:
            self._drain(before, now, within=self._timing.retire)

    def _abandon(self, crew: Crew, now: float) -> None:
        self._drain(crew, now, within=self._timing.retire)
        self.failure = crew.failure
        if self._current is None:
            self._log.event("start-failed", generation=crew.number, reason=crew.failure)
            self._status = BOOT_FAILED
            self._stop(within=self._timing.quit)
        else:
            self._log.event("reload-failed", generation=crew.number, reason=crew.failure)
            self._go_on(self._current)

    def _go_on(self, crew: Crew) -> None:
        """Tell that the reload came to nothing, and the generation before goes on."""
        self._ready(f"generation {crew.number}; reload failed: {self.failure}")

    def _may_reload(self, now: float) -> bool:
        return (
            self._reload_wanted
            and not self._stopping
            and self._candidate is None
            and now >= self._reload_not_before
            and len(self._draining) < _DRAINING_LIMIT
        )

    def _reload(self, crew: Crew, now: float) -> None:
        self._reload_wanted = False
        self._reload_not_before = now + self._timing.reload_spacing
        self._notifier.reloading(now)
        self._log.event("reload", generation=crew.number)
        generation = self._load("reload-failed")
        if generation is None:
            self._go_on(crew)
        else:
            self._boot(generation)

    def _drain(self, crew: Crew, now: float, *, within: float) -> None:
        self._draining.append(crew)
        crew.drain(now, within=within)
        self._log.event("generation-draining", generation=crew.number, workers=len(crew.members))
        self._guard(crew.generation.close)

    def _retire(self, now: float) -> None:
        """Strike out the generations whose last worker has left."""
        for crew in [crew for crew in self._draining if not crew.members]:
            self._draining.remove(crew)
            self._log.event("generation-left", generation=crew.number)
        if self._reload_wanted and len(self._draining) >= _DRAINING_LIMIT:
            self._draining[0].hurry(now + self._timing.stop)

    def _stop(self, *, within: float) -> None:
        """Let all that runs come to an end within so many seconds."""
        now = self._clock()
        if not self._stopping:
            self._stopping = True
            self._show("stopping")
            self._notifier.stopping()
        for crew in (self._candidate, self._current):
            if crew is not None:
                self._drain(crew, now, within=within)
        self._candidate = self._current = None
        for crew in self._draining:
            crew.hurry(now + within)

    def _bury(self, pid: int, status: int) -> None:
        for crew in self._crews():
            if pid in crew.members:
                crew.bury(pid, status, self._clock())
                killed = os.waitstatus_to_exitcode(status) != 0
                self._guard(partial(self._service.worker_died, pid, killed=killed))

    def _guard(self, call: Callable[[], None]) -> None:
        """Call into the service; a bug in it is logged, and does not end the master."""
        try:
            call()
        except Exception as error:
            self._log.bug("service-bug", error)

    def _crews(self) -> list[Crew]:
        return [
            crew for crew in (self._candidate, self._current, *self._draining) if crew is not None
        ]

    def _show(self, words: str) -> None:
        setproctitle(f"pfsmtp: master [{self._name}] {words}")
