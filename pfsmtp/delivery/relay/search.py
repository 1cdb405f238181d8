"""Connects to the first of a destination's addresses that answers.

Addresses are tried in the order of the route. One that does not answer is not waited for alone:
after a few seconds the next is tried as well, and the first that connects is taken, so that a black
hole in one address family costs seconds (RFC 8305). Who was passed over like that counts as failed,
as does who refused: they are left alone for a while (`backoff`).

Deadlines are in the clock's seconds.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pfsmtp.delivery.relay.backoff import BackOff, Held
from pfsmtp.delivery.relay.connection import explain
from pfsmtp.net.dialing import Dialed, Dialing
from pfsmtp.resolver import Destination
from pfsmtp.smtp.client.conversation import BAD_CONNECTION
from pfsmtp.smtp.errors import DeliveryFailure, TransientFailure
from pfsmtp.smtp.status import Status

# RFC 3463 §3.5: no answer from host.
NO_ANSWER = Status(4, 4, 1)


@dataclass(frozen=True, slots=True)
class Missed:
    """An address that was of no use, and why; the reason goes behind the host's name."""

    destination: Destination
    status: Status
    reason: str


class Search:
    """The addresses of one destination in one attempt, one after the other."""

    def __init__(
        self,
        destinations: Iterator[Destination],
        port: int,
        *,
        most: int,
        timeout: float,
        alone: float,
        tried: set[str],
        back_off: BackOff[str],
        clock: Callable[[], float],
    ) -> None:
        """Try `most` addresses, each for `timeout` seconds; none of those in `tried`.

        After `alone` seconds without an answer the next one is tried as well.
        """
        self.held: Held | None = None  # the first address to come back, of those left alone
        self._destinations = destinations
        self._port = port
        self._left = most
        self._timeout = timeout
        self._alone = alone
        self._back_off = back_off
        self._clock = clock
        self._again: list[Destination] = []  # passed over without a verdict
        self._next: Destination | None = None
        self._seen = set(tried)
        self._failures: list[Missed] = []
        self._exhausted = False

    def peek(self) -> Destination | None:
        """The address that is tried next."""
        if self._next is None:
            self._next = self._find()
        return self._next

    def skip(self) -> None:
        """Do not try that one: its connection is there already."""
        self._next = None

    def connect(self) -> tuple[Destination, socket.socket] | None:
        """Return a connection to the next address that answers; None when none is left.

        What became of the others is for `take_failures`. Raises TransientFailure when this
        machine has no more sockets.
        """
        with Dialing(self._port) as dialing:
            race = _Race(dialing, self._clock, timeout=self._timeout, alone=self._alone)
            try:
                return self._winner(race)
            except DeliveryFailure:
                # Those under way have shown nothing: others may probe them.
                self._again += [runner.destination for runner in race.runners.values()]
                raise

    def _winner(self, race: _Race) -> tuple[Destination, socket.socket] | None:
        while True:
            if race.wants_another and (destination := self.peek()):
                race.start(destination)
                self._next = None
            if not race.runners:
                return None
            dialed = race.wait(more=not self._exhausted)
            for runner in race.expired():
                self._fail(runner.destination, "did not answer")
            if dialed is None:
                continue
            runner = race.runners.pop(dialed.address)
            if dialed.socket is not None:
                self._pass_over(race)
                return runner.destination, dialed.socket
            self._refused(runner.destination, dialed.error)

    def reconnect(self, destination: Destination) -> socket.socket | None:
        """Connect to an address once more; None, and a failure is noted, if that fails.

        Raises TransientFailure as `connect` does.
        """
        with Dialing(self._port) as dialing:
            race = _Race(dialing, self._clock, timeout=self._timeout, alone=self._alone)
            try:
                race.start(destination)
            except TransientFailure:
                self._again.append(destination)
                raise
            while True:
                dialed = race.wait(more=False)
                if dialed is not None and dialed.socket is not None:
                    return dialed.socket
                if dialed is not None or race.expired():
                    self._fail(destination, "could not be reached again")
                    return None

    def take_failures(self) -> list[Missed]:
        """The addresses that could not be connected to."""
        failures, self._failures = self._failures, []
        return failures

    def _find(self) -> Destination | None:
        # Addresses of less preferred hosts are looked up when they are asked for, not before.
        while self._left and (destination := next(self._destinations, None)):
            if destination.address in self._seen:
                continue
            self._seen.add(destination.address)
            held = self._back_off.enter(destination.address)
            if held is None:
                self._left -= 1
                return destination
            if self.held is None or held.until < self.held.until:
                self.held = Held(held.until, f"{destination.host} {held.reason}")
        self._exhausted = not self._again
        return None if self._exhausted else self._again.pop(0)

    def _refused(self, destination: Destination, error: OSError | None) -> None:
        if error is not None and error.errno == errno.ECONNRESET:
            # What does not listen refuses; this one took the connection, and broke it at once.
            reason = f"broke the connection ({explain(error)})"
            self._fail(destination, reason, BAD_CONNECTION)
        else:
            self._fail(destination, f"could not be reached ({explain(error)})")

    def _fail(self, destination: Destination, reason: str, status: Status = NO_ANSWER) -> None:
        self._back_off.failed(destination.address, reason)
        self._failures.append(Missed(destination, status, reason))

    def _pass_over(self, race: _Race) -> None:
        """Judge those who have not answered while another did."""
        for runner in race.runners.values():
            if self._clock() - runner.since >= self._alone:
                self._fail(runner.destination, "did not answer")
            else:
                self._again.append(runner.destination)

    def leave(self) -> None:
        """Give back what was asked for and not used."""
        unused = [*self._again, *([self._next] if self._next else [])]
        for destination in unused:
            self._back_off.left(destination.address)


@dataclass(frozen=True, slots=True)
class _Runner:
    destination: Destination
    since: float


class _Race:
    """Addresses that are tried at the same time."""

    def __init__(
        self, dialing: Dialing, clock: Callable[[], float], *, timeout: float, alone: float
    ) -> None:
        self.runners: dict[str, _Runner] = {}
        self._dialing = dialing
        self._clock = clock
        self._timeout = timeout
        self._alone = alone
        self._last = 0.0

    @property
    def wants_another(self) -> bool:
        return not self.runners or self._clock() >= self._last + self._alone

    def start(self, destination: Destination) -> None:
        try:
            self._dialing.start(destination.address)
        except OSError as error:
            raise TransientFailure(3, 0, "this server has no room for more connections") from error
        self._last = self._clock()
        self.runners[destination.address] = _Runner(destination, self._last)

    def wait(self, *, more: bool) -> Dialed | None:
        """Wait for one to arrive or fail, or until another may be started."""
        until = min(runner.since for runner in self.runners.values()) + self._timeout
        if more:
            until = min(until, self._last + self._alone)
        dialed = self._dialing.wait(until - self._clock())
        if dialed is not None and dialed.socket is None:
            # A refusal leaves no reason to wait with the next one.
            self._last -= self._alone
        return dialed

    def expired(self) -> list[_Runner]:
        """Take out those whose time is over."""
        oldest = self._clock() - self._timeout
        expired = [runner for runner in self.runners.values() if runner.since <= oldest]
        for runner in expired:
            del self.runners[runner.destination.address]
            self._dialing.give_up(runner.destination.address)
        return expired
