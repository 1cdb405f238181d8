"""The connection threads of a worker, on real sockets, in this process."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pfsmtp.config import Address, Limits
from pfsmtp.net import socketio
from pfsmtp.net.connection import Connection
from pfsmtp.net.listener import bind
from pfsmtp.net.stream import ClearStream
from pfsmtp.process.service import Context
from pfsmtp.roles.receiver import Receiver
from pfsmtp.smtp.reply import After, Reply
from pfsmtp.smtp.session import Server, Session
from pfsmtp.tls import describe
from tests.running.program import Talk, eventually
from tests.smtp.fakes import NO_LOG, FakeAccess, FakeStore


class Clients:
    """Counts who is in; refuses when told to."""

    def __init__(self) -> None:
        self.inside = 0
        self.refusal: Reply | None = None

    def enter(self, address: str) -> Reply | None:
        if self.refusal is None:
            self.inside += 1
        return self.refusal

    def leave(self, address: str) -> None:
        self.inside -= 1


class Running:
    """A receiver, its port and its parts."""

    def __init__(self, most: int) -> None:
        self.listener = bind(Address.parse("127.0.0.1:0"), implicit_tls=False)
        self.port = int(self.listener.socket.getsockname()[1])
        self.clients = Clients()
        self.store = FakeStore()
        server = Server("mx", Limits(), FakeAccess(), self.store, NO_LOG, lambda: 0.0, tls=False)
        self.receiver = Receiver(
            Context("receiver", 0, 1, 1),
            server,
            [self.listener],
            connect=_connect,
            clients=self.clients,
            most=most,
        )


def _connect(stream: ClearStream, session: Session, wake: int) -> Connection:
    return Connection(stream, session, wake=wake, tls=None, describe=describe)


@contextmanager
def running(*, most: int = 100) -> Iterator[Running]:
    subject = Running(most)
    before = threading.stack_size()
    subject.receiver.start()
    try:
        yield subject
    finally:
        subject.receiver.drain()
        eventually(subject.receiver.finished)
        threading.stack_size(before)


def test_connections_are_served_at_the_same_time() -> None:
    with running() as subject:
        talks = [Talk(subject.port) for _ in range(20)]
        assert all(talk.hear().startswith("220") for talk in talks)
        assert subject.clients.inside == 20
        assert subject.receiver.title() == "20 connections 0 messages"
        for talk in talks:
            assert talk.say("QUIT").startswith("221")
            talk.close()
        eventually(lambda: subject.clients.inside == 0)
        eventually(lambda: subject.receiver.title().startswith("0 connections"))


def test_above_the_ceiling_a_client_is_told_so_at_once_and_the_listener_goes_on() -> None:
    with running(most=2) as subject:
        with Talk(subject.port) as first, Talk(subject.port) as second:
            assert first.hear().startswith("220")
            assert second.hear().startswith("220")
            for _ in range(3):
                with Talk(subject.port) as third:
                    assert third.hear().startswith("421 4.3.2")
                    assert third.closed()
            first.say("QUIT")

        def served() -> bool:
            with Talk(subject.port) as later:
                return later.hear().startswith("220")

        eventually(served)


def test_client_over_its_limits_is_turned_away_with_the_reason() -> None:
    with running() as subject:
        subject.clients.refusal = Reply(421, "Too many", (7, 0), After.CLOSE)
        with Talk(subject.port) as client:
            assert client.hear().startswith("421 4.7.0")
            assert client.closed()
        assert subject.clients.inside == 0


def test_drain_ends_idle_dialogues_and_lets_go_of_the_listener() -> None:
    with running() as subject, Talk(subject.port) as client, Talk(subject.port) as sending:
        client.hear()
        sending.hear()
        sending.say("HELO c")
        sending.envelope()
        subject.receiver.drain()
        assert client.hear().startswith("421 4.3.2")
        assert sending.say(".").startswith("250")
        assert sending.hear().startswith("421 4.3.2")
        eventually(subject.receiver.finished)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", subject.port), timeout=5)


def test_drain_serves_who_waits_already_since_nobody_else_knows_of_them() -> None:
    # No thread of it waits, as when each has been woken for a connection and told to stop.
    subject = Running(most=100)
    with Talk(subject.port) as client, Talk(subject.port) as other:
        subject.receiver.drain()
        assert client.hear().startswith("220")
        assert other.hear().startswith("220")
        client.say("HELO c")
        client.envelope()
        assert client.say(".").startswith("250")
        assert client.hear().startswith("421 4.3.2")
        assert other.hear().startswith("421 4.3.2")
    eventually(subject.receiver.finished)
    assert subject.clients.inside == 0


def test_connection_that_could_not_be_accepted_is_once_there_are_descriptors() -> None:
    with running() as subject:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as client:
            client.settimeout(20)
            highest = os.dup(client.fileno())
            os.close(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limit[1]))
            try:
                client.connect(("127.0.0.1", subject.port))
                # Long enough for it to be tried: accepting takes no time.
                client.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    client.recv(3)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            client.settimeout(20)
            assert client.recv(3) == b"220"


def test_without_descriptors_accepting_pauses_and_recovers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = [errno.EMFILE, errno.ENFILE, errno.ENOMEM]
    pauses: list[float] = []

    class Place(socketio.Place):
        def accept(self, stop: int) -> tuple[int, str, int, str, int] | None:
            if failures:
                code = failures.pop()
                raise OSError(code, "scarce")
            return super().accept(stop)

    monkeypatch.setattr("pfsmtp.roles.receiver.socketio.Place", Place)
    monkeypatch.setattr("pfsmtp.roles.receiver.time.sleep", pauses.append)
    with running() as subject, Talk(subject.port) as client:
        assert client.hear().startswith("220")
    assert len(pauses) == 3


def test_without_threads_a_client_is_told_so_and_the_listener_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running() as subject:
        scarce = True

        def start(thread: threading.Thread) -> None:
            if scarce:
                raise RuntimeError("can't start new thread")
            real(thread)

        real = threading.Thread.start
        monkeypatch.setattr("threading.Thread.start", start)
        with Talk(subject.port) as client:
            assert client.hear().startswith("421 4.3.2")
        scarce = False
        with Talk(subject.port) as client:
            assert client.hear().startswith("220")
