"""Hands mail on to other hosts: one attempt for one message to one destination.

What it leaves to others: when to try, what to do with an outcome, telling the sender. It does not
fail: every recipient gets an outcome, or the attempt was not made, and `held` says until when to
wait.

RFC 5321 §5.1 (which host), RFC 3207 and RFC 7435 (TLS where it can be had).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from pfsmtp.config import Relay as Settings
from pfsmtp.delivery.relay.attempt import Attempt, EventLog, Shared
from pfsmtp.delivery.relay.backoff import BackOff, Held
from pfsmtp.delivery.relay.connection import Budgets, Judge
from pfsmtp.delivery.relay.form import Unit
from pfsmtp.delivery.relay.gate import Gate
from pfsmtp.delivery.relay.pool import Pool
from pfsmtp.delivery.relay.way import Way
from pfsmtp.net.client_stream import ClientStream
from pfsmtp.smtp.client.transaction import DotStuff
from pfsmtp.smtp.outcome import Outcome

_PATIENCE = 5.0
"""Seconds in which another attempt to the same destination may end, for this one to begin."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an attempt."""

    outcomes: list[Outcome] = field(default_factory=list)  # one for each recipient, in order
    held: Held | None = None  # set when nothing was tried: why, and when to ask again


class Relay:
    """Shared by the threads of a process, and made after the fork."""

    def __init__(
        self,
        way: Way,
        settings: Settings,
        *,
        budgets: Budgets,
        hostname: str,
        dot_stuff: DotStuff,
        judge: Judge,
        log: EventLog,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """`clock` is monotonic; `random` gives numbers from 0 to 1."""

        def back_off() -> BackOff[str]:
            first, most = settings.back_off, settings.back_off_most
            return BackOff(first, most, clock=clock, random=random)

        def make_stream(sock: socket.socket) -> ClientStream:
            return ClientStream(sock, clock)

        self._way = way
        self._hosts = back_off()
        self._gate = Gate(
            back_off(), limit=settings.connections, per_minute=settings.rate, clock=clock
        )
        self._pool = Pool(
            keep=settings.reuse,
            messages=settings.messages,
            quit_timeout=budgets.timeouts.quit,
            clock=clock,
        )
        self._shared = Shared(
            way=way,
            settings=settings,
            budgets=budgets,
            hostname=hostname,
            hosts=self._hosts,
            gate=self._gate,
            pool=self._pool,
            dot_stuff=dot_stuff,
            judge=judge,
            log=log,
            clock=clock,
            make_stream=make_stream,
        )

    def destination(self, domain: str) -> str:
        """What counts as one destination: all of a smart host's domains do."""
        return self._way.smart_host or domain.lower()

    def look(self, domain: str) -> Held | None:
        """Whether mail for this domain would be held just now, and until when; costs little."""
        return self._gate.look(self.destination(domain))

    def room(self, destination: str) -> int:
        """How many attempts may be made beside those under way; costs little."""
        return self._gate.room(destination)

    def held(self) -> list[tuple[str, Held]]:
        """The destinations that are left alone for now; a smart host is the one destination."""
        return self._gate.held()

    def ask(self, domain: str, asked: float) -> None:
        """The operator wants an attempt, and said so at this time, in seconds of the clock.

        Whoever has failed before, and not since, is tried again, once.
        """
        self._gate.ask(self.destination(domain), asked)
        self._hosts.ask_all(asked)

    def deliver(self, unit: Unit) -> Report:
        """Try to hand one message on. Blocks, for minutes at worst; see `Budgets`."""
        key = self.destination(unit.domain)
        held = self._gate.enter(key, _PATIENCE)
        if held is not None:
            return Report(held=held)
        attempt = Attempt(self._shared, unit, key)
        try:
            attempt.run()
        finally:
            reason = attempt.reason if attempt.reached is False else ""
            self._gate.leave(key, attempt.reached, reason=reason, held=attempt.held)
        outcomes = attempt.outcomes
        return Report(outcomes, None if outcomes else attempt.held)

    def tidy(self) -> None:
        """Let go of what is not used any more; to be called every second or so. Never waits."""
        self._pool.tidy()
        self._gate.tidy()
        self._hosts.tidy()

    def close(self) -> None:
        """Let go of all kept connections."""
        self._pool.close()
