"""Disks that are full, have no inodes, or are read-only: 4yz, and nothing left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.corpus import HEADER, TEXT, on_the_wire
from tests.disks import fill, remount, tmpfs
from tests.running.mail import assert_same
from tests.running.measure import MIB
from tests.running.program import Program, Talk, eventually

SMALL = HEADER + b"\r\n" + TEXT
LARGE = HEADER + b"\r\n" + TEXT * (2 * MIB // len(TEXT))
"""Goes to the disk while it comes in."""

PAGE = 4096
"""Octets that a small file takes of a tmpfs."""

either_size = pytest.mark.parametrize("message", [SMALL, LARGE], ids=["small", "2 MiB"])


@contextmanager
def disk(tmp_path: Path, options: str) -> Iterator[tuple[Program, Path]]:
    """A server whose mail is on a disk of its own, and where that is."""
    patient = {"errors_slow": 1000, "errors_close": 1000}
    with (
        tmpfs(tmp_path / "mail", options) as mail,
        Program.inbound(tmp_path, limits=patient) as server,
    ):
        workers = server.workers()
        yield server, mail
        assert server.workers() == workers
        assert server.events("connection-bug") == []


def send(client: Talk, message: bytes, *recipients: str) -> str:
    """Send it in a session that was begun; returns the answer."""
    client.envelope(*recipients)
    client.send(on_the_wire(message))
    return client.hear()


def assert_nothing_left(server: Program, mail: Path) -> None:
    assert [path for path in mail.glob("*/new/*") if path.is_file()] == []
    assert server.leftovers() == []


def assert_taken(server: Program, client: Talk, message: bytes, *logins: str) -> None:
    """It is taken now, and stored as it was sent."""
    recipients = [f"{login}@example.org" for login in logins]
    assert send(client, message, *recipients).startswith("250 2.0.0")
    for login in logins:
        assert_same([("the message", message)], server.take(login))


@either_size
@pytest.mark.parametrize("first", [True, False], ids=["without Maildirs", "with Maildirs"])
def test_i10_full_disk_is_452_until_there_is_space(
    tmp_path: Path, message: bytes, *, first: bool
) -> None:
    with disk(tmp_path, "size=8m") as (server, mail), Talk(server.port) as client:
        client.greet()
        if not first:
            assert_taken(server, client, SMALL, "alice", "bob")
        filler = fill(mail)
        for _ in range(2):
            answer = send(client, message, "alice@example.org", "bob@example.org")
            assert answer.startswith("452 4.3.1")
            assert_nothing_left(server, mail)
        filler.unlink()
        assert_taken(server, client, message, "alice", "bob")


def test_i10_disk_that_fills_up_in_the_midst_of_a_message(tmp_path: Path) -> None:
    with disk(tmp_path, "size=8m") as (server, mail), Talk(server.port) as client:
        client.begin()
        client.send(LARGE[: MIB + MIB // 2])
        eventually(lambda: len(server.leftovers()) == 1, what="it goes to the disk")
        filler = fill(mail)
        client.send(on_the_wire(LARGE)[MIB + MIB // 2 :])
        assert client.hear().startswith("452 4.3.1")
        assert_nothing_left(server, mail)
        filler.unlink()
        assert_taken(server, client, LARGE, "alice")


@either_size
def test_i5_space_for_one_of_two_recipients_is_space_for_none(
    tmp_path: Path, message: bytes
) -> None:
    with disk(tmp_path, "size=8m") as (server, mail), Talk(server.port) as client:
        client.greet()
        assert_taken(server, client, SMALL, "alice", "bob")
        filler = fill(mail, spare=PAGE if message is SMALL else len(message) + MIB // 2)
        answer = send(client, message, "alice@example.org", "bob@example.org")
        assert answer.startswith("452 4.3.1")
        assert_nothing_left(server, mail)
        filler.unlink()
        assert_taken(server, client, message, "alice", "bob")


@either_size
def test_i10_disk_without_inodes_is_452_until_there_are_some(
    tmp_path: Path, message: bytes
) -> None:
    with disk(tmp_path, "size=8m,nr_inodes=40") as (server, mail), Talk(server.port) as client:
        client.greet()
        assert_taken(server, client, SMALL, "alice")
        fillers = use_up_inodes(mail)
        assert send(client, message).startswith("452 4.3.1")
        assert_nothing_left(server, mail)
        for filler in fillers:
            filler.unlink()
        assert_taken(server, client, message, "alice")


def use_up_inodes(where: Path) -> list[Path]:
    fillers: list[Path] = []
    while True:
        filler = where / f"filler-{len(fillers)}"
        try:
            filler.touch()
        except OSError:
            return fillers
        fillers.append(filler)


@either_size
def test_i10_read_only_disk_is_451_until_it_is_not(tmp_path: Path, message: bytes) -> None:
    with disk(tmp_path, "size=8m") as (server, mail), Talk(server.port) as client:
        client.greet()
        assert_taken(server, client, SMALL, "alice")
        remount(mail, "ro")
        assert send(client, message).startswith("451 4.3.0")
        assert_nothing_left(server, mail)
        remount(mail, "rw")
        assert_taken(server, client, message, "alice")


def test_rfc1870_message_that_does_not_fit_is_refused_at_mail(tmp_path: Path) -> None:
    with disk(tmp_path, "size=4m") as (server, mail), Talk(server.port) as client:
        client.greet()
        assert_taken(server, client, SMALL, "alice")
        filler = fill(mail, spare=MIB)

        def size_is_taken(size: int) -> bool:
            answer = client.say(f"MAIL FROM:<sender@example.net> SIZE={size}")
            client.say("RSET")
            assert answer[:9] in ("250 2.1.0", "452 4.3.1")
            return answer.startswith("250")

        # What is known of the disk may be as old as a second.
        eventually(lambda: not size_is_taken(2 * MIB))
        assert size_is_taken(MIB // 2)
        filler.unlink()
        eventually(lambda: size_is_taken(2 * MIB))
        assert_taken(server, client, LARGE, "alice")
