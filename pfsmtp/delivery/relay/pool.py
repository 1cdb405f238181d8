"""Connections that wait for the next message, and those that are on their way out.

A connection is found by the destination it last served, without asking the DNS, or by its address,
for another destination with the same host. It is kept for a while and for so many messages; then it
is told QUIT, and closed when the host has answered, by `tidy`. So nobody waits for that answer.

It does not fail: a connection that turned out dead is for the caller to replace.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from pfsmtp.delivery.relay.connection import Connection

_MOST = 400
# A shorter break needs no look whether the host has hung up: sending will show it.
_BREAK = 0.5


class Pool:
    """Shared by the threads of a process."""

    def __init__(
        self, *, keep: float, messages: int, quit_timeout: float, clock: Callable[[], float]
    ) -> None:
        """Keep connections for `keep` seconds (0: not at all) and up to so many messages."""
        self._keep = keep
        self._messages = messages
        self._quit_timeout = quit_timeout
        self._clock = clock
        self._lock = Lock()
        self._idle: dict[str, list[Connection]] = {}  # by address
        self._count = 0
        self._addresses: dict[str, str] = {}  # of the destination's last connection
        self._leaving: list[tuple[float, Connection]] = []

    def take(self, domain: str) -> Connection | None:
        """A connection that served this destination last."""
        address = self._addresses.get(domain)
        return None if address is None else self.take_address(address)

    def take_address(self, address: str) -> Connection | None:
        """A connection to this address."""
        while True:
            with self._lock:
                idle = self._idle.get(address)
                if not idle:
                    return None
                connection = idle.pop()
                self._count -= 1
            age = self._clock() - connection.idle_since
            if age < _BREAK or (age < self._keep and connection.is_quiet()):
                return connection
            self.retire(connection)

    def give(self, domain: str, connection: Connection) -> None:
        """Keep a connection that may be used again; or not, if it has served long enough."""
        now = self._clock()
        most = connection.client.capabilities.messages or self._messages
        if not self._keep or connection.messages >= min(most, self._messages):
            self.retire(connection)
            return
        connection.idle_since = now
        with self._lock:
            if self._count < _MOST:
                self._idle.setdefault(connection.address, []).append(connection)
                self._addresses[domain] = connection.address
                self._count += 1
                return
        self.retire(connection)

    def retire(self, connection: Connection) -> None:
        """Say QUIT; the connection is closed later."""
        connection.say_quit()
        with self._lock:
            self._leaving.append((self._clock() + self._quit_timeout, connection))

    def tidy(self) -> None:
        """Let go of what has waited too long; to be called every second or so. Never waits."""
        for connection in self._expired(self._clock() - self._keep):
            self.retire(connection)
        with self._lock:
            leaving, self._leaving = self._leaving, []
        now = self._clock()
        staying = []
        for until, connection in leaving:
            if now < until and connection.is_quiet():
                staying.append((until, connection))
            else:
                connection.close()
        with self._lock:
            self._leaving += staying

    def close(self) -> None:
        """Let go of all, at once."""
        for connection in self._expired(float("inf")):
            connection.say_quit()
            connection.close()
        with self._lock:
            leaving, self._leaving = self._leaving, []
        for _, connection in leaving:
            connection.close()

    def _expired(self, oldest: float) -> list[Connection]:
        """Take out the connections that were last used before then."""
        expired = []
        with self._lock:
            for address, idle in list(self._idle.items()):
                expired += [each for each in idle if each.idle_since <= oldest]
                left = [each for each in idle if each.idle_since > oldest]
                if left:
                    self._idle[address] = left
                else:
                    del self._idle[address]
            self._count -= len(expired)
            for domain, address in list(self._addresses.items()):
                if address not in self._idle:
                    del self._addresses[domain]
        return expired
