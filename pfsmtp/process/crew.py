"""The workers of one generation, as the master sees them.

A generation has seats, a role and an index each; a seat is filled by a worker, and filled again
when that worker dies. A crew knows who is ready, who is due, who is stuck and who is out of time.
It makes no decisions about generations: those are the master's, who alone forks (`Spawn`) and
reaps.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from pfsmtp.process.service import EventLog, Generation, Role, Timing
from pfsmtp.process.shared import Heartbeat
from pfsmtp.process.worker import READY

_PARDONED = 5  # failures in a row of one seat before it has to wait
_BOOT_ATTEMPTS = 3  # deaths of one seat before a booting generation is given up
_REPORT_LIMIT = 4096


class Phase(Enum):
    """Where a generation is in its life."""

    BOOTING = auto()
    SERVING = auto()
    DRAINING = auto()


@dataclass(slots=True, eq=False)
class Seat:
    """A place for one worker."""

    role: Role
    index: int
    taken: bool = False
    due: float = -math.inf  # empty until then
    failures: int = 0
    failure: str = ""  # of the last worker, if it did not last, or hangs

    @property
    def name(self) -> str:
        return f"{self.role.name} {self.index + 1}"


@dataclass(slots=True, eq=False)
class Member:
    """A worker process. Times are of the monotonic clock."""

    pid: int
    seat: Seat
    heartbeat: Heartbeat
    report: int | None  # read end; None once the worker has said whether it could start
    born: float
    ready: bool = False
    refusal: str = ""
    condemned: bool = False
    quit_at: float = math.inf
    kill_at: float = math.inf

    def signal(self, number: signal.Signals) -> None:
        # Not reaped yet, so the pid is still this worker's.
        os.kill(self.pid, number)

    def take_report(self) -> None:
        """Read what the worker has to say about its start, if it has said it."""
        if self.report is None:
            return
        try:
            octets = os.read(self.report, _REPORT_LIMIT)
        except BlockingIOError:
            return
        self.ready = octets == READY
        self.refusal = octets[1:].decode("utf-8", "replace")
        self.close_report()

    def close_report(self) -> None:
        if self.report is not None:
            os.close(self.report)
            self.report = None


Spawn = Callable[["Crew", Seat], Member]
"""Fork a worker for a seat. Raises OSError. Returns in the master only."""


@dataclass(slots=True, eq=False)
class Crew:
    """The seats of a generation and the workers in them."""

    number: int
    generation: Generation
    log: EventLog
    timing: Timing
    begun: float
    phase: Phase = Phase.BOOTING
    failure: str = ""  # why this generation cannot boot
    roles: Sequence[Role] = ()
    seats: list[Seat] = field(default_factory=list)
    members: dict[int, Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roles = tuple(self.generation.roles)
        self.seats = [Seat(role, index) for role in self.roles for index in range(role.count)]

    def reporting(self) -> Iterator[Member]:
        """The workers that have not yet said whether they could start."""
        return (member for member in self.members.values() if member.report is not None)

    def all_ready(self) -> bool:
        return sum(member.ready for member in self.members.values()) == len(self.seats)

    def next_due(self) -> float:
        """When there is something to be done for a seat or a worker, at the earliest."""
        seats = (seat.due for seat in self.seats if not seat.taken)
        limits = (min(member.quit_at, member.kill_at) for member in self.members.values())
        boot = self.begun + self.timing.boot if self.phase is Phase.BOOTING else math.inf
        return min(boot, *seats, *limits, math.inf)

    def fill(self, now: float, spawn: Spawn) -> None:
        """Fork a worker for each empty seat whose time has come."""
        if self.failure:
            return
        for seat in self.seats:
            if seat.taken or seat.due > now:
                continue
            try:
                member = spawn(self, seat)
            except OSError as error:
                self._say("fork-failed", seat, reason=str(error))
                self._back_off(seat, now, lived=0.0, failure=f"cannot be forked: {error}")
                if self.phase is Phase.BOOTING and seat.failures >= _BOOT_ATTEMPTS:
                    self.failure = f"cannot fork {seat.name}: {error}"
                continue
            seat.taken = True
            self.members[member.pid] = member

    def greet(self) -> None:
        """Take the reports of those who have just started."""
        for member in list(self.reporting()):
            member.take_report()
            if member.ready:
                self._say("worker-ready", member.seat, pid=member.pid)

    def bury(self, pid: int, status: int, now: float) -> None:
        """Strike out a worker that has been reaped with exit status `status`, as of wait(2)."""
        member = self.members.pop(pid)
        member.take_report()
        member.close_report()
        member.heartbeat.close()
        seat = member.seat
        expected = seat not in self.seats
        ended = _how(status)
        if member.refusal:
            self._say("worker-refused", seat, pid=pid, reason=member.refusal)
        else:
            self._say("worker-left" if expected else "worker-died", seat, pid=pid, exit=ended)
        if expected:
            return
        seat.taken = False
        failure = f"cannot start: {member.refusal}" if member.refusal else f"ended with {ended}"
        self._back_off(seat, now, lived=now - member.born, failure=failure)
        if self.phase is Phase.BOOTING:
            self._judge(member, ended)

    def watch(self, now: float, *, since: float) -> None:
        """Kill who is stuck, and see to it that who was told to leave leaves.

        `since` is when the master began to look: silence before that is not held against anyone.
        """
        if self.phase is Phase.BOOTING and now >= self.begun + self.timing.boot:
            self.failure = self.failure or f"not ready within {self.timing.boot:g} s"
        for member in self.members.values():
            if member.condemned:
                continue
            if now >= member.kill_at:
                self._condemn(member, "worker-late", now)
            elif now >= member.quit_at:
                self._quit(member, now)
            elif self._is_silent(member, now, since):
                self._condemn(member, "worker-stuck", now)

    def is_sound(self, now: float, *, since: float) -> bool:
        """Whether we do without a new start of everything; `since` is as for `watch`.

        Who hangs or dies is replaced, again and again if need be. That comes to nothing where all
        who have a role hang in the kernel, and do not even die. Where others serve meanwhile, a new
        start would only take them along; where nobody does, it may help, and takes nothing away.
        """
        served = {seat.role.name for seat in self._served(now, since)}
        hung = {
            member.seat.role.name
            for member in self.members.values()
            if member.seat in self.seats and self._is_silent(member, now, since)
        }
        return bool(served) and hung <= served

    def failing(self, now: float, *, since: float) -> str:
        """Tell people which seats stay empty, and why; nothing while each is served, or soon is."""
        served = self._served(now, since)
        failing = [seat for seat in self.seats if seat.failure and seat not in served]
        names = ", ".join(seat.name for seat in failing)
        return f"{names} down: {failing[0].failure}" if failing else ""

    def drain(self, now: float, *, within: float) -> None:
        """Tell all to finish what they have begun, and to have done so `within` seconds."""
        if self.phase is not Phase.DRAINING:
            self.phase = Phase.DRAINING
            self.seats.clear()
            self.signal(signal.SIGTERM)
        self.hurry(now + within)
        for member in self.members.values():
            if not member.ready:
                # It has begun nothing, and may hang where it cannot hear us.
                member.kill_at = min(member.kill_at, now + self.timing.quit)

    def hurry(self, at: float) -> None:
        """Let nobody go on for longer than until `at`."""
        for member in self.members.values():
            member.quit_at = min(member.quit_at, at)

    def signal(self, number: signal.Signals) -> None:
        for member in self.members.values():
            member.signal(number)

    def add_seat(self) -> int:
        """Make room for one worker more of the first role; return how many there are now."""
        role = self.roles[0]
        index = self._seats_of(role)
        self.seats.append(Seat(role, index))
        return index + 1

    def remove_seat(self, now: float) -> int:
        """Let one worker of the first role go, but not the last; return how many there are now."""
        role = self.roles[0]
        count = self._seats_of(role)
        if count < 2:
            return count
        seat = next(s for s in self.seats if s.role is role and s.index == count - 1)
        self.seats.remove(seat)
        for member in self.members.values():
            if member.seat is seat:
                member.signal(signal.SIGTERM)
                member.quit_at = now + self.timing.retire
        return count - 1

    def forget(self) -> None:
        """Close the descriptors and memory of all members, for a child that is none of them."""
        for member in self.members.values():
            member.close_report()
            member.heartbeat.close()

    def _seats_of(self, role: Role) -> int:
        return sum(seat.role is role for seat in self.seats)

    def _served(self, now: float, since: float) -> set[Seat]:
        """The seats of those who come round, and are there to stay as far as can be told."""
        return {
            member.seat
            for member in self.members.values()
            if member.ready
            and member.seat in self.seats
            and now - member.born >= self.timing.steady
            and not self._is_silent(member, now, since)
        }

    def _is_silent(self, member: Member, now: float, since: float) -> bool:
        patience = self.timing.stuck if member.ready else self.timing.boot
        return now - max(member.heartbeat.last, since) > patience

    def _quit(self, member: Member, now: float) -> None:
        member.signal(signal.SIGQUIT)
        member.quit_at = math.inf
        member.kill_at = now + self.timing.quit

    def _condemn(self, member: Member, event: str, now: float) -> None:
        silent = round(now - member.heartbeat.last, 1)
        self._say(event, member.seat, pid=member.pid, silent=silent)
        member.seat.failure = "hangs"
        member.signal(signal.SIGKILL)
        member.condemned = True
        member.quit_at = member.kill_at = math.inf

    def _back_off(self, seat: Seat, now: float, *, lived: float, failure: str) -> None:
        """Say when the seat is to be filled again: at once, unless it keeps failing."""
        lasted = lived >= self.timing.steady
        seat.failures = 0 if lasted else seat.failures + 1
        seat.failure = "" if lasted else failure
        excess = seat.failures - _PARDONED
        delay = 0.0
        if excess > 0:
            # The exponent is bounded, for numbers have an end.
            delay = min(self.timing.backoff * 2.0 ** min(excess - 1, 32), self.timing.backoff_limit)
        seat.due = now + delay

    def _judge(self, member: Member, ended: str) -> None:
        """Give the boot up if a worker refuses to start, or dies again and again."""
        if member.refusal:
            self.failure = f"{member.seat.name} cannot start: {member.refusal}"
        elif member.seat.failures >= _BOOT_ATTEMPTS:
            self.failure = f"{member.seat.name} keeps dying, last with {ended}"

    def _say(self, event: str, seat: Seat, **fields: object) -> None:
        self.log.event(event, worker=seat.name, generation=self.number, **fields)


def _how(status: int) -> str:
    """Say how a process ended, from its status as of wait(2)."""
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"status {code}"
