"""The receiver: a worker's connection threads, each of which accepts for itself.

All idle threads wait on one epoll set of the listeners, and the kernel wakes one of them for each
connection: no hand-over from an acceptor to a thread. Who takes a connection sees to it that
another thread waits. When as many connections are open as may be, the thread that waits answers
421 and goes on waiting, so that the listener never falls silent.

One of the listeners may be a socket for the programs of this machine; what comes there is served by
the same threads, within the same limits, and is `roles.submission`'s.

The worker's main thread starts and drains it (`process.service.Body`).
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from pfsmtp.log import Log
from pfsmtp.net import socketio
from pfsmtp.net.connection import Connection
from pfsmtp.net.listener import Listener
from pfsmtp.net.stream import ClearStream
from pfsmtp.process.service import Context
from pfsmtp.roles.precedence import Precedence
from pfsmtp.smtp.ports import Peer
from pfsmtp.smtp.reply import After, Reply
from pfsmtp.smtp.session import Server, Session

_FULL = Reply(421, "Too many connections at present; come again", (3, 2), After.CLOSE)

_STACK = 256 * 1024
"""Octets of address space for a thread's stack; what is not touched costs nothing."""
_SPARE = 32
"""Threads that stay to wait for the next connection."""
_SCARCE = 0.2
"""Seconds until accept is tried again when descriptors or memory have run out."""

_SWITCH = 0.1
"""Seconds after which a thread that waits for the interpreter asks whoever has it to let it go.

A thread lets it go by itself with each system call. But all who wait wake up to ask, so that with
the default of 5 ms thousands of threads, whose clients leave at the same time, use up all the
processors by waiting.
"""

Accepted = tuple[int, str, int, str, int]
"""Descriptor, the client's address and port, our own address, and the listener."""


class ClientLimits(Protocol):
    """How many connections one client may have."""

    def enter(self, address: str) -> Reply | None:
        """A client comes: None, and it counts until `leave`, or a refusal."""
        ...

    def leave(self, address: str) -> None: ...


class Submission(Protocol):
    """A message that a program of this machine hands over, not by SMTP."""

    accepted: int

    def serve(self) -> None: ...

    def drain(self) -> None: ...


class Submissions(Protocol):
    """What to do with who comes at a listener that is `local`; the descriptor is theirs."""

    def accept(self, fd: int, log: Log, /) -> Submission: ...

    def turn_away(self, fd: int, reply: Reply, /) -> None: ...


class Receiver:
    """Accepts connections and holds their dialogues until it is drained."""

    def __init__(
        self,
        context: Context,
        server: Server,
        listeners: Sequence[Listener],
        *,
        connect: Callable[[ClearStream, Session, int], Connection],
        clients: ClientLimits,
        most: int,
        submissions: Submissions | None = None,
    ) -> None:
        """`submissions` are needed if one of the listeners is `local`."""
        self._context = context
        self._server = server
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._connect = connect
        self._clients = clients
        self._most = most
        self._submissions = submissions
        self._log = server.log.bind(worker=context.index + 1)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._place = socketio.Place(self._epoll.fileno())
        self._precedence = Precedence(context)
        self._connections: set[Connection | Submission] = set()
        self._lock = threading.Lock()  # over the two counts of threads
        self._idle = 0
        self._threads = 0
        self._messages = 0
        self._draining = False
        self._complained = 0.0

    # -- process.service.Body

    def start(self) -> None:
        for fd in self._listeners:
            self._place.take(fd)
        self._epoll.register(self._stop, select.EPOLLIN)
        threading.stack_size(_STACK)
        sys.setswitchinterval(_SWITCH)
        with self._lock:
            self._start_waiting()

    def drain(self) -> None:
        self._draining = True
        for fd, listener in self._listeners.items():
            with suppress(OSError):
                self._place.leave(fd)
            self._take_pending(fd)
            # Kept open, it would stay bound though nobody accepts from it.
            listener.close()
        for connection in tuple(self._connections):
            connection.drain()
        os.eventfd_write(self._stop, 1)

    def _take_pending(self, listener: int) -> None:
        """Serve those who wait already.

        Of each connection one worker is told. When that was us, and we would not accept it any
        more, nobody else would know of it until another comes.
        """
        for _ in range(_SPARE):
            accepted = socketio.accept_pending(listener)
            if accepted is None:
                return
            try:
                with self._lock:
                    self._start_thread(partial(self._serve_one, accepted))
            except RuntimeError as error:
                self._complain("threads-scarce", str(error))
                self._turn_away(accepted, _FULL)

    def finished(self) -> bool:
        return self._threads == 0

    def stop(self) -> None:
        """Nothing to do: the process ends, and with it all that is open."""

    def reopen(self) -> None:
        self._log.reopen()

    def core_taken(self, share: float) -> None:
        self._precedence.core_taken(share)

    def title(self) -> str:
        return f"{len(self._connections)} connections {self._messages} messages"

    # -- connection threads

    def _start_waiting(self) -> None:
        """Start a thread that waits for connections; the lock is held. Raises RuntimeError."""
        self._start_thread(self._serve_all)
        self._idle += 1

    def _start_thread(self, work: Callable[[], None]) -> None:
        """Start a thread for `work`; the lock is held. Raises RuntimeError when there is none."""
        threading.Thread(target=self._run, args=(work,), daemon=True).start()
        self._threads += 1

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._threads -= 1

    def _serve_all(self) -> None:
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        """Take one connection and serve it; False when this thread is to end."""
        try:
            accepted = self._place.accept(self._stop)
        except OSError as error:
            return self._wait_out(error)
        if accepted is None:
            return False
        if not self._make_way():
            self._turn_away(accepted, _FULL)
            return True
        self._serve_one(accepted)
        return self._wait_again()

    def _serve_one(self, accepted: Accepted) -> None:
        fd, address, port, own_address, listener = accepted
        if self._listeners[listener].local:
            self._serve_program(fd)
            return
        peer = Peer(address, port, own_address, loopback=_is_loopback(address))
        refusal = self._clients.enter(address)
        if refusal is not None:
            self._turn_away(accepted, refusal)
            return
        try:
            self._serve(ClearStream(fd), peer, implicit_tls=self._listeners[listener].implicit_tls)
        finally:
            self._clients.leave(address)

    def _serve(self, stream: ClearStream, peer: Peer, *, implicit_tls: bool) -> None:
        session = Session(self._server, peer, self._log)
        connection = self._connect(stream, session, self._stop)
        self._begun(connection)
        if self._draining:
            # It was accepted as the drain began; who drains may have missed it.
            connection.drain()
        try:
            connection.serve(implicit_tls=implicit_tls)
        finally:
            self._ended(connection, session.messages, connection.octets)
            self._messages += session.accepted

    def _serve_program(self, fd: int) -> None:
        assert self._submissions is not None
        submission = self._submissions.accept(fd, self._log)
        self._begun(submission)
        try:
            submission.serve()
        finally:
            self._ended(submission, submission.accepted, 0)
            self._messages += submission.accepted

    def _begun(self, connection: Connection | Submission) -> None:
        self._connections.add(connection)
        self._place.kept = self._precedence.holds(len(self._connections))

    def _ended(self, connection: Connection | Submission, messages: int, octets: int) -> None:
        self._connections.discard(connection)
        self._precedence.ended(messages, octets)

    def _make_way(self) -> bool:
        """Leave the waiting to another thread; False when this one must go on waiting."""
        with self._lock:
            if self._idle == 1 and not self._draining:
                if len(self._connections) >= self._most:
                    return False
                try:
                    self._start_waiting()
                except RuntimeError as error:
                    self._complain("threads-scarce", str(error))
                    return False
            self._idle -= 1
            return True

    def _wait_again(self) -> bool:
        """Wait for another connection, unless enough threads do."""
        with self._lock:
            if self._idle >= _SPARE:
                return False
            self._idle += 1
            return True

    def _turn_away(self, accepted: Accepted, reply: Reply) -> None:
        fd, address, _, _, listener = accepted
        self._log.event("turned-away", client=address, reason=f"{reply.code} {reply.lines[0]}")
        if self._listeners[listener].local:
            assert self._submissions is not None
            self._submissions.turn_away(fd, reply)
            return
        # Who expects TLS could make nothing of a reply in clear.
        in_clear = not self._listeners[listener].implicit_tls
        ClearStream(fd).close(reply.octets if in_clear else b"")

    def _wait_out(self, error: OSError) -> bool:
        """Accepting failed: go on after a while, unless it was because we are draining."""
        if self._draining:
            return False
        # EMFILE, ENFILE, ENOBUFS, ENOMEM; whatever else it is, somebody has to go on waiting.
        self._complain("accept-failed", error.strerror)
        time.sleep(_SCARCE)
        return True

    def _complain(self, event: str, reason: str | None) -> None:
        now = self._server.clock()
        if now - self._complained > 1.0:
            self._complained = now
            self._log.event(event, reason=reason, connections=len(self._connections))


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
