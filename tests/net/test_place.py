"""Workers that wait for connections to one listener, each on an epoll set of its own."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pfsmtp.config import Address
from pfsmtp.net import socketio
from pfsmtp.net.listener import Listener, bind
from tests.running.program import eventually

THREADS = 4  # of each worker


class Worker:
    """Threads that accept connections, and close them."""

    def __init__(self, listener: Listener) -> None:
        self.accepted: list[int] = []
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._stop, select.EPOLLIN)
        self.place = socketio.Place(self._epoll.fileno())
        self.place.take(listener.fileno())
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while (accepted := self.place.accept(self._stop)) is not None:
            fd, _, port, _, _ = accepted
            os.close(fd)
            self.accepted.append(port)

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        for thread in self._threads:
            thread.join()
        os.close(self._stop)
        self._epoll.close()


class Workers:
    """Two of them at one listener."""

    def __init__(self, stack: ExitStack) -> None:
        self.listener = bind(Address.parse("127.0.0.1:0"), implicit_tls=False)
        stack.callback(self.listener.close)
        self.first, self.second = Worker(self.listener), Worker(self.listener)
        stack.callback(self.first.close)
        stack.callback(self.second.close)
        self._address = self.listener.socket.getsockname()

    def connect(self, times: int) -> None:
        """One connection after the other; each is accepted before the next one comes."""
        for _ in range(times):
            before = self.counts()
            with socket.create_connection(self._address, timeout=20):
                eventually(lambda before=before: sum(self.counts()) > sum(before))  # type: ignore[misc]

    def connect_at_once(self, times: int) -> None:
        before = sum(self.counts())
        with ExitStack() as clients:
            for _ in range(times):
                clients.enter_context(socket.create_connection(self._address, timeout=20))
            eventually(lambda: sum(self.counts()) == before + times)

    def counts(self) -> tuple[int, int]:
        return len(self.first.accepted), len(self.second.accepted)


@pytest.fixture
def workers() -> Iterator[Workers]:
    with ExitStack() as stack:
        yield Workers(stack)


def test_workers_take_turns(workers: Workers) -> None:
    workers.connect(20)
    assert sorted(workers.counts()) in ([9, 11], [10, 10])  # one may not have waited yet


def test_worker_that_keeps_its_place_goes_first(workers: Workers) -> None:
    workers.first.place.kept = True
    workers.connect(20)
    assert workers.counts()[0] >= 19  # before which the other may have been in front


def test_worker_that_queues_up_again_takes_turns(workers: Workers) -> None:
    workers.first.place.kept = True
    workers.connect(4)
    workers.first.place.kept = False
    before = workers.counts()
    workers.connect(20)
    gained = [after - earlier for after, earlier in zip(workers.counts(), before, strict=True)]
    assert sorted(gained) in ([9, 11], [10, 10])


@pytest.mark.parametrize("kept", [True, False])
def test_connections_that_come_at_once_are_all_accepted(workers: Workers, kept: bool) -> None:
    workers.first.place.kept = kept
    for _ in range(20):
        workers.connect_at_once(30)


def test_connections_that_are_there_before_anyone_waits_are_all_accepted() -> None:
    # Of all of them together the threads are told once.
    with ExitStack() as stack:
        listener = bind(Address.parse("127.0.0.1:0"), implicit_tls=False)
        stack.callback(listener.close)
        address = listener.socket.getsockname()
        for _ in range(10):
            stack.enter_context(socket.create_connection(address, timeout=20))
        worker = Worker(listener)
        stack.callback(worker.close)
        worker.place.kept = True
        eventually(lambda: len(worker.accepted) == 10)


def test_nobody_is_told_of_a_listener_that_was_left(workers: Workers) -> None:
    workers.first.place.leave(workers.listener.fileno())
    workers.connect(4)
    assert workers.counts() == (0, 4)
    with pytest.raises(OSError, match="No such file"):
        workers.first.place.leave(workers.listener.fileno())
