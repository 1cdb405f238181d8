"""More than there is room for: connections, memory, descriptors, threads, processes.

Others are served on, or again.
"""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.injection import Fault, Injection
from tests.figures import Show
from tests.running.measure import MIB, descriptors, processor_seconds, pss
from tests.running.neighbour import Neighbour, Served
from tests.running.program import PATIENCE, Program, Talk, eventually

MOST_MEMORY = 150 * MIB
"""Octets of memory that a worker takes, whatever is sent to it."""
PROMPT = 2.0
"""Seconds in which a client that is turned away knows it."""
RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: close with a reset."""

CHUNK = 1024 * (62 * b"x" + b"\r\n")
"""64 KiB of text."""


def deliver(server: Program) -> None:
    with Talk(server.port) as client:
        client.begin()
        assert client.say("Subject: as ever\r\n.").startswith("250")


@contextmanager
def greeted(server: Program, count: int) -> Iterator[list[Talk]]:
    with ExitStack() as stack:
        talks = [stack.enter_context(Talk(server.port)) for _ in range(count)]
        for talk in talks:
            assert talk.hear().startswith("220")
        yield talks


# -- connections


def test_above_the_ceiling_clients_are_turned_away_promptly_and_the_listener_goes_on(
    tmp_path: Path,
) -> None:
    ceiling = 5
    workers = {"processes": 1, "connections": ceiling}
    with Program.inbound(tmp_path, workers=workers) as server:
        with greeted(server, ceiling) as talks:
            for _ in range(50):
                started = time.monotonic()
                with Talk(server.port) as client:
                    assert client.hear().startswith("421 4.3.2")
                    assert client.closed()
                assert time.monotonic() - started < PROMPT
            assert all(talk.say("NOOP").startswith("250") for talk in talks)
            talks[0].say("QUIT")
            eventually(lambda: is_served(server))
        eventually(lambda: is_served(server))
        assert len(server.events("turned-away")) >= 50


def is_served(server: Program) -> bool:
    with Talk(server.port) as client:
        return client.hear().startswith("220")


def idle(server: Program, count: int) -> list[str]:
    """Hold so many idle connections, and hold the server to what they may cost; returns figures."""
    quiet = sum(map(pss, server.workers()))
    with greeted(server, count):
        memory = [pss(pid) for pid in server.workers()]
        each = (sum(memory) - quiet) // count
        before = processor_seconds(server.workers())
        select.select([], [], [], 1.0)
        load = processor_seconds(server.workers()) - before
        deliver(server)
    assert load < 0.2
    # Where others are busy, too, one worker may have taken many more of them than the other.
    assert sum(memory) < len(memory) * MOST_MEMORY
    return [
        f"{count} idle connections: {each / 1024:.1f} KiB each, {max(memory) >> 20} MiB a worker"
    ]


def test_idle_connections_cost_little_and_others_are_served(inbound: Program, show: Show) -> None:
    show("Idle connections", idle(inbound, 400))


@pytest.mark.slow
def test_ten_thousand_idle_connections(tmp_path: Path, show: Show) -> None:
    count = 10_000
    room_for_descriptors(count + 200)
    with Program.inbound(tmp_path, workers={"processes": 2, "connections": count}) as server:
        show("Idle connections", idle(server, count))


def room_for_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"needs {count} descriptors; `ulimit -Hn` says {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def test_storm_of_connections_that_are_reset_harms_nobody(inbound: Program) -> None:
    workers = inbound.workers()
    for index in range(1000):
        with socket.create_connection(("127.0.0.1", inbound.port), PATIENCE) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if index % 2:
                sock.sendall(b"EHLO client.example.net\r\n")
    deliver(inbound)
    assert inbound.workers() == workers
    assert inbound.events("connection-bug") == []


def test_p6_descriptors_are_given_back(inbound: Program) -> None:
    deliver(inbound)
    before = sum(map(descriptors, inbound.workers()))
    with greeted(inbound, 200):
        assert sum(map(descriptors, inbound.workers())) > 200
    # Both workers may have the Maildir's directories open now.
    eventually(lambda: sum(map(descriptors, inbound.workers())) <= before + 5)


# -- memory


def swamp(server: Program, *, clients: int, size: int) -> list[str]:
    """So many clients send messages of this size all at once; returns figures."""
    rounds = size // len(CHUNK)
    most = 0
    with greeted(server, clients) as talks, ThreadPoolExecutor(8) as pool:
        for talk in talks:
            talk.hello()
            talk.envelope()
        for count in range(rounds):
            list(pool.map(lambda talk: talk.send(CHUNK), talks))
            if count % 8 == 0 or count == rounds - 1:
                most = max(most, *map(pss, server.workers()))
        assert all(answer.startswith("250") for answer in pool.map(end, talks))
    most = max(most, *map(pss, server.workers()))
    assert len(server.files("alice")) == clients
    assert most < MOST_MEMORY
    return [f"{clients} clients with {size >> 20} MiB each: at most {most >> 20} MiB a worker"]


def end(talk: Talk) -> str:
    talk.socket.settimeout(120)
    return talk.say(".")


def test_hundred_large_messages_at_once_leave_each_worker_small(
    inbound: Program, show: Show
) -> None:
    show("Memory", swamp(inbound, clients=100, size=2 * MIB))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_hundred_messages_of_50_mib_at_once_leave_each_worker_small(
    tmp_path: Path, show: Show
) -> None:
    with Program.inbound(tmp_path) as server:
        show("Memory", swamp(server, clients=100, size=50 * MIB - len(CHUNK)))


# -- descriptors


def test_without_descriptors_a_worker_does_not_spin_and_recovers_unaided(
    tmp_path: Path, show: Show
) -> None:
    few = 64
    server = Program.inbound(tmp_path, workers={"processes": 1})
    server.prefix = ("prlimit", f"--nofile={few}:{few}")
    with server:
        workers = server.workers()
        with Neighbour(server.port) as neighbour, ExitStack() as stack:
            writer = stack.enter_context(Talk(server.port))
            writer.begin()
            crowd = [stack.enter_context(Talk(server.port)) for _ in range(2 * few)]
            server.await_event("accept-failed")
            before = processor_seconds(workers)
            select.select([], [], [], 1.0)
            assert processor_seconds(workers) - before < 0.3
            # Who is in is served as far as that goes, and never told what is not so.
            assert writer.say("Subject: scarce\r\n.")[:3] in ("250", "451", "452")
            delivered = len(server.files("alice"))
            assert readable(crowd) < len(crowd)
        deliver(server)
        assert len(server.files("alice")) == delivered + 1
        assert server.leftovers() == []
        assert server.workers() == workers
        show("A neighbour of who takes all descriptors", [str(neighbour.served)])
        hold(neighbour.served, server)


def hold(served: Served, server: Program) -> None:
    """Whoever was not served was told to come again, and whoever was has his mail stored."""
    assert all(re.search(r"\(4\d\d, ", failure) for failure in served.failures), served.failures
    assert len(served.seconds) > 0
    # What was sent before the count began is one more.
    assert len(server.files("bob")) == len(served.seconds) + 1


def readable(talks: Sequence[Talk]) -> int:
    poll = select.poll()  # descriptors may have large numbers
    for talk in talks:
        poll.register(talk.socket, select.POLLIN)
    return len(poll.poll(0))


# -- threads and processes

NO_MORE = (Fault("clone", "EAGAIN", 0), Fault("clone3", "EAGAIN", 0))
"""What the kernel says to who wants a thread, or a process."""


def test_without_threads_clients_are_told_so_and_it_recovers_unaided(tmp_path: Path) -> None:
    with Program.inbound(tmp_path, workers={"processes": 1}) as server, Talk(server.port) as inside:
        inside.begin()
        workers = server.workers()
        with ExitStack() as stack:
            stack.enter_context(Injection(workers[0], *NO_MORE, record=tmp_path / "strace"))
            # Threads that wait already are as good as new ones.
            answers = [stack.enter_context(Talk(server.port)).hear()[:9] for _ in range(20)]
            assert answers[-10:] == ["421 4.3.2"] * 10
            server.await_event("threads-scarce")
            assert inside.say("Subject: begun before\r\n.").startswith("250")
        eventually(lambda: is_served(server))
        with greeted(server, 20):
            deliver(server)
        assert server.workers() == workers
        assert len(server.files("alice")) == 2


def test_without_threads_a_neighbour_of_many_is_served_or_put_off(
    tmp_path: Path, show: Show
) -> None:
    with Program.inbound(tmp_path, workers={"processes": 1}) as server:
        (worker,) = server.workers()
        with (
            Neighbour(server.port) as neighbour,
            Injection(worker, *NO_MORE, record=tmp_path / "strace"),
        ):
            ends = time.monotonic() + 2.0
            while time.monotonic() < ends:
                with ExitStack() as stack:
                    crowd = [stack.enter_context(Talk(server.port)) for _ in range(20)]
                    assert {talk.hear()[:3] for talk in crowd} <= {"220", "421"}
        assert server.events("threads-scarce")
        show("A neighbour of many, without threads", [str(neighbour.served)])
        hold(neighbour.served, server)


def test_without_processes_the_others_serve_and_it_recovers_unaided(
    tmp_path: Path, show: Show
) -> None:
    with Program.inbound(tmp_path) as server:
        killed, other = server.workers()
        with Injection(server.pid, *NO_MORE, record=tmp_path / "strace"):
            os.kill(killed, signal.SIGKILL)
            before = processor_seconds([server.pid])
            with Neighbour(server.port) as neighbour:
                # At once, a few times; then after pauses that grow.
                server.await_event("fork-failed", count=7)
            assert processor_seconds([server.pid]) - before < 0.5
            assert server.workers() == [other]
            deliver(server)
        server.await_event("worker-ready", count=3)
        assert len(server.workers()) == 2
        deliver(server)
        assert len(server.files("alice")) == 2
        show("A neighbour of a worker that cannot be replaced", [str(neighbour.served)])
        hold(neighbour.served, server)
        assert neighbour.served.failures == []
