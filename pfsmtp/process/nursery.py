"""Where workers are forked, and rid of what is the master's alone.

A child inherits the listeners, the shared memory and the read end of the life pipe. It does not
inherit signals that were meant for the master, nor the master's ends of any pipe, nor the
heartbeats of others.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable

from pfsmtp.process import worker
from pfsmtp.process.crew import Crew, Member, Seat
from pfsmtp.process.service import Context, EventLog, Timing
from pfsmtp.process.shared import Heartbeat
from pfsmtp.process.signals import SignalPipe, blocked


class Nursery:
    """Forks workers for a master; the life pipe ends when the process that made this ends."""

    def __init__(
        self,
        crews: Callable[[], Iterable[Crew]],
        signals: SignalPipe,
        *,
        log: EventLog,
        timing: Timing,
        clock: Callable[[], float],
    ) -> None:
        self._crews = crews
        self._signals = signals
        self._log = log
        self._timing = timing
        self._clock = clock
        self._life_reader, self._life_writer = os.pipe2(os.O_CLOEXEC)

    def spawn(self, crew: Crew, seat: Seat) -> Member:
        """Fork a worker for `seat`. Raises OSError when there are no processes or descriptors."""
        if seat.role.prepare is not None:
            seat.role.prepare()
        born = self._clock()
        heartbeat = Heartbeat(born)
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            heartbeat.close()
            raise
        context = Context(seat.role.name, seat.index, seat.role.count, crew.number)
        birth = worker.Birth(
            context,
            seat.role,
            crew.generation.identity,
            heartbeat,
            life=self._life_reader,
            report=writer,
            close_inherited=lambda: self._close_inherited(reader),
        )
        try:
            pid = self._fork(birth)
        except OSError:
            heartbeat.close()
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return Member(pid, seat, heartbeat, report=reader, born=born)

    def _fork(self, birth: worker.Birth) -> int:
        # The collector of a child would write to, and so copy, every page that is shared with us.
        gc.freeze()
        try:
            with blocked():
                pid = os.fork()
                if pid == 0:
                    worker.run(birth, log=self._log, timing=self._timing)
        finally:
            gc.unfreeze()
        return pid

    def _close_inherited(self, reader: int) -> None:
        self._signals.forget()
        os.close(self._life_writer)
        os.close(reader)
        for crew in self._crews():
            crew.forget()
