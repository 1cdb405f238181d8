"""The compiled front of sendmail and a running server: what is acknowledged is in the queue."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.disks import fill, tmpfs
from tests.running.measure import descriptors
from tests.running.outbound.post import views
from tests.running.program import NOBODY, PATIENCE, Program, eventually, open_to_nobody
from tests.sendmail.front import build, environment

MESSAGE = b"Subject: hello\n\nHello\n"
RECIPIENT = "bob@[127.0.0.9]"
"""Where nobody listens: it stays in the queue."""

Done = subprocess.CompletedProcess[bytes]


class Sendmail:
    """The front, and a server that it is to find."""

    def __init__(self, front: Path, directory: Path, **changes: Any) -> None:
        changes.setdefault("listen", {"sendmail": "socket"})
        self.server = Program.outbound(directory, **changes)
        self.path = directory / "socket"
        self.front = front
        # No second way: what Python did would not show what the socket does.
        self.environment = environment(self.path) | {"PATH": "/nowhere"}

    def start(
        self, *arguments: str, octets: bytes = MESSAGE, **more: Any
    ) -> subprocess.Popen[bytes]:
        """Start it, and give it the whole message."""
        process = subprocess.Popen(
            [self.front, *(arguments or (RECIPIENT,))],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            **more,
        )
        assert process.stdin is not None
        process.stdin.write(octets)
        process.stdin.close()
        process.stdin = None
        return process

    def __call__(self, *arguments: str, **more: Any) -> tuple[int, bytes]:
        """Run it; returns its exit status, and what it told."""
        return end(self.start(*arguments, **more))

    def queued(self) -> int:
        return len(views(self.server))


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    _, told = process.communicate(timeout=PATIENCE)
    return process.returncode, told


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It is alone: there is nothing beside it to go on with."""
    program = build(tmp_path_factory.mktemp("front"))
    program.with_name("pfsmtp-python").unlink()
    return program


@pytest.fixture
def sendmail(front: Path, tmp_path: Path) -> Iterator[Sendmail]:
    subject = Sendmail(front, tmp_path)
    with subject.server:
        yield subject
    assert subject.server.events("submission-bug") == []


def test_a_message_is_in_the_queue_when_it_ends(sendmail: Sendmail) -> None:
    assert sendmail("-f", "ann@x.example", RECIPIENT, "carol@[127.0.0.8]") == (0, b"")
    (event,) = sendmail.server.events("message-accepted")
    assert (event["sender"], event["user"]) == ("ann@x.example", os.getuid())
    assert sendmail.queued() == 2  # units, of a message to two hosts


def test_it_may_be_typed_as_a_command_of_pfsmtp(sendmail: Sendmail, tmp_path: Path) -> None:
    sendmail.front = build(tmp_path / "typed", "pfsmtp", python="#!/bin/false\n")
    assert sendmail("sendmail", "-f", "ann@x.example", RECIPIENT) == (0, b"")
    (event,) = sendmail.server.events("message-accepted")
    assert (event["sender"], event["user"]) == ("ann@x.example", os.getuid())
    assert sendmail.queued() == 1


def test_a_refusal_is_told(sendmail: Sendmail) -> None:
    status, told = sendmail("not an address@x")
    assert (status, told) == (os.EX_DATAERR, b"sendmail: 'not an address@x' is not an address\n")
    assert sendmail.queued() == 0


def test_a_hundred_at_once_are_all_taken(sendmail: Sendmail) -> None:
    with ThreadPoolExecutor(100) as pool:
        outcomes = list(pool.map(lambda _: sendmail(), range(100)))
    assert outcomes == [(0, b"")] * 100
    assert sendmail.queued() == 100


def test_another_user_may_send_and_is_known(sendmail: Sendmail) -> None:
    needs.root()
    for directory in (*sendmail.path.parents, *sendmail.front.parents):
        if directory.stat().st_mode & 0o011 != 0o011:
            directory.chmod(directory.stat().st_mode | 0o011)
    who = pwd.getpwnam(NOBODY)
    assert sendmail(user=who.pw_uid, group=who.pw_gid, extra_groups=[]) == (0, b"")
    (event,) = sendmail.server.events("message-accepted")
    assert event["user"] == who.pw_uid
    assert event["sender"].startswith(f"{NOBODY}@")


def test_a_large_message_goes_by_smtp(front: Path, tmp_path: Path) -> None:
    whole = build(tmp_path / "front")
    limits = {"message_size": "3 MiB"}
    subject = Sendmail(whole, tmp_path / "out", limits=limits)
    with subject.server:
        both = f"{subject.path},127.0.0.1:{subject.server.port}"
        subject.environment = environment(both)
        line = b"x" * 63 + b"\n"
        assert subject(octets=MESSAGE + line * (2 << 20 >> 6)) == (0, b"")
        status, told = subject(octets=MESSAGE + line * (4 << 20 >> 6))
        assert status == os.EX_DATAERR
        assert b"552 5.3.4" in told
        assert len(subject.server.events("submission-declined")) == 2
        assert subject.queued() == 1


# -- failures


def test_without_a_server_it_is_to_be_tried_again(front: Path, tmp_path: Path) -> None:
    build(tmp_path / "front")
    subject = Sendmail(tmp_path / "front" / front.name, tmp_path / "out")
    both = f"{subject.path},127.0.0.1:{subject.server.port}"
    subject.environment = environment(both)
    status, told = subject()
    assert status == os.EX_TEMPFAIL
    assert b"the mail server cannot be reached" in told


def test_a_server_that_dies_in_the_midst_is_told_and_to_be_tried_again(sendmail: Sendmail) -> None:
    workers = sendmail.server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    process = sendmail.start()
    eventually(lambda: is_connected(sendmail.path), what="a connection at the socket")
    sendmail.server.kill()
    status, told = end(process)
    assert status == os.EX_TEMPFAIL
    assert told.startswith(b"sendmail: the mail server broke off, and may have the message or not")
    sendmail.server.start()
    # The file that was left is in nobody's way.
    assert sendmail() == (0, b"")
    assert sendmail.queued() == 1


def is_connected(path: Path) -> bool:
    """Whether somebody has connected to a socket, and waits to be accepted."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    # A connection that was not accepted yet has the path of its listener.
    return sum(line.endswith(f" {path}") for line in lines) > 1


def test_a_full_disk_is_to_be_tried_again(front: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(tmpfs(tmp_path / "disk", "size=64m"))
        subject = Sendmail(front, tmp_path, queue={"directory": str(disk / "queue")})
        stack.enter_context(subject.server)
        filler = fill(disk)
        outcomes = [subject() for _ in range(20)]
        # What there is room for in files that are there already is taken.
        refused = [told for status, told in outcomes if status == os.EX_TEMPFAIL]
        accepted = [told for status, told in outcomes if status == os.EX_OK]
        big = subject(octets=MESSAGE + b"x" * 500_000)
        assert big[0] == os.EX_TEMPFAIL
        assert b": 452 4.3.1 " in big[1]
        assert len(refused) + len(accepted) == len(outcomes)
        assert subject.queued() == len(accepted)
        filler.unlink()
        eventually(lambda: subject() == (0, b""), what="a message, as there is room again")


def test_connections_above_the_ceiling_are_to_be_tried_again(front: Path, tmp_path: Path) -> None:
    workers = {"processes": 1, "connections": 5}
    subject = Sendmail(front, tmp_path, workers=workers)
    with subject.server, ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(silent(subject.path))
        status, told = subject()
        assert status == os.EX_TEMPFAIL
        assert told.startswith(b"sendmail: the mail server: Too many connections")
        stack.close()
        eventually(lambda: subject()[0] == 0, what="room again")


def silent(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(path))
    return client


def test_silent_clients_hold_up_nobody_and_not_the_end(sendmail: Sendmail) -> None:
    clients = [silent(sendmail.path) for _ in range(100)]
    assert sendmail() == (0, b"")
    assert sendmail.server.stop() == 0
    assert not sendmail.path.exists()
    for client in clients:
        assert client.recv(1) == b""
        client.close()
    assert len(sendmail.server.events("submission-lost")) == 100


def test_a_flood_leaves_no_descriptors_behind(sendmail: Sendmail) -> None:
    """None of 1,500; a worker that gets its first message meanwhile opens the queue: three."""
    assert sendmail() == (0, b"")
    before = [descriptors(pid) for pid in sendmail.server.workers()]
    for _ in range(500):
        with silent(sendmail.path) as client:
            socket.send_fds(client, [b"x" * 8], [0, 1, 2])
    assert sendmail() == (0, b"")

    def back() -> bool:
        now = [descriptors(pid) for pid in sendmail.server.workers()]
        return all(a <= b + 5 for a, b in zip(now, before, strict=True))

    eventually(back, what="as many descriptors as before")


# -- reload, end, start


def test_a_reload_breaks_nothing_off(sendmail: Sendmail) -> None:
    over = threading.Event()
    outcomes: list[tuple[int, bytes]] = []

    def load() -> None:
        while not over.is_set():
            outcomes.append(sendmail())

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            sendmail.server.signal(signal.SIGHUP)
            sendmail.server.await_event("generation-ready", count=number + 2)
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert set(outcomes) == {(0, b"")}
    assert sendmail.queued() == len(outcomes)


def test_a_reload_moves_the_socket(sendmail: Sendmail) -> None:
    old, new = sendmail.path, sendmail.path.with_name("other")
    sendmail.server.reconfigure(listen={"sendmail": str(new)})
    sendmail.server.signal(signal.SIGHUP)
    eventually(lambda: not old.exists() and new.exists(), what="the socket at its new place")
    sendmail.environment = environment(new)
    assert sendmail() == (0, b"")


def test_a_socket_that_another_server_has_is_an_error(sendmail: Sendmail, tmp_path: Path) -> None:
    second = Program.outbound(tmp_path / "second", listen={"sendmail": str(sendmail.path)})
    second.start(ready=False)
    assert second.wait() == 1
    assert "another program listens there" in second.errors.read_text()
    assert sendmail() == (0, b"")


def test_the_socket_of_a_server_that_root_has_started_is_for_everybody(
    front: Path, tmp_path: Path
) -> None:
    needs.root()
    user = open_to_nobody(tmp_path)
    queue = {"directory": str(tmp_path / "mail" / "queue")}
    subject = Sendmail(
        front, tmp_path, queue=queue, log={"file": str(tmp_path / "log.json")}, **user
    )
    with subject.server:
        assert subject() == (0, b"")
        assert subject.path.stat().st_mode & 0o777 == 0o666
