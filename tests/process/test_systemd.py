"""sd_notify and socket activation, with real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfsmtp.process.systemd import InheritedDescriptor, Notifier, listen_fds
from tests.process.forked import Child

FIRST = 200  # in place of 3, which the test runner uses


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening service manager, and how its address is written."""
    path = str(tmp_path / "notify")
    bound, written = (path, path) if request.param == "path" else (f"\0{path}", f"@{path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(20)
        channel.bind(bound)
        yield channel, written


def test_states_are_told(manager: tuple[socket.socket, str]) -> None:
    channel, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("generation 1")
    notifier.reloading(12.5)
    notifier.status("well")
    notifier.stopping()
    assert [channel.recv(4096).decode().splitlines() for _ in range(4)] == [
        ["READY=1", f"MAINPID={os.getpid()}", "STATUS=generation 1"],
        ["RELOADING=1", "MONOTONIC_USEC=12500000", "STATUS=reloading"],
        ["STATUS=well"],
        ["STOPPING=1", "STATUS=finishing what has been begun"],
    ]


def test_status_is_one_line_that_is_not_too_long(manager: tuple[socket.socket, str]) -> None:
    channel, address = manager
    Notifier({"NOTIFY_SOCKET": address}).ready("it is\nREADY=0 " + "\N{SNOWMAN}" * 5000)
    told = channel.recv(100_000)
    assert len(told) <= 4096  # NOTIFY_BUFFER_MAX of systemd, which ignores what is longer
    assert len(told.splitlines()) == 3
    assert "STATUS=it is READY=0 \N{SNOWMAN}" in told.decode()


def test_sign_of_life_is_given_four_times_as_often_as_it_is_wanted(
    manager: tuple[socket.socket, str],
) -> None:
    channel, address = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "8000000"}
    for pid in ({}, {"WATCHDOG_PID": str(os.getpid())}):
        notifier = Notifier(environment | pid)
        assert notifier.every == 2.0
        for now in (100.0, 101.9, 102.0, 103.0, 104.5):
            notifier.alive(now)
        notifier.stopping()
        told = [channel.recv(4096) for _ in range(4)]
        assert told[:3] == [b"WATCHDOG=1"] * 3
        assert told[3].startswith(b"STOPPING=1")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_sign_of_life_is_given_to_who_does_not_want_one(
    manager: tuple[socket.socket, str], environment: dict[str, str]
) -> None:
    channel, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address, **environment})
    notifier.alive(100.0)
    notifier.status("well")
    assert channel.recv(4096) == b"STATUS=well"


def test_status_of_several_lines_is_one_assignment(manager: tuple[socket.socket, str]) -> None:
    channel, address = manager
    Notifier({"NOTIFY_SOCKET": address}).status("bad\nREADY=1")
    assert channel.recv(4096) == b"STATUS=bad READY=1"


@pytest.mark.parametrize(
    "address", ["", "/nowhere/at/all", "vsock:2:1", "relative", "/" + "x" * 200]
)
def test_nobody_to_tell_does_no_harm(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).ready("generation 1")


def test_sockets_are_taken_over_with_their_names() -> None:
    environment = _environment(3, "smtp:smtps")
    found = Child(lambda: _listen(environment, open_fds=(200, 201, 202))).result()
    assert found == [[200, "smtp", False], [201, "smtps", False], [202, "unknown", False]]


def test_variables_are_forgotten() -> None:
    environment = {**_environment(0, ""), "HOME": "/"}
    listen_fds(environment, pid=os.getpid())
    assert environment == {"HOME": "/"}


def test_more_sockets_announced_than_there_are() -> None:
    found = Child(lambda: _listen(_environment(9, ""), open_fds=(200, 201))).result()
    assert [fd for fd, *_ in found] == [200, 201]


@pytest.mark.parametrize(
    ("owner", "count"),
    [("1", "1"), ("", "1"), (None, ""), (None, "-1"), (None, "two"), (None, "²")],
)
def test_sockets_of_another_process_and_nonsense_are_left_alone(
    owner: str | None, count: str
) -> None:
    pid = os.getpid()
    environment = {"LISTEN_PID": str(pid) if owner is None else owner, "LISTEN_FDS": count}
    assert listen_fds(environment, pid=pid) == []


def _environment(count: int, names: str) -> dict[str, str]:
    return {"LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}


def _listen(environment: dict[str, str], *, open_fds: tuple[int, ...]) -> list[object]:
    """Run `listen_fds` in a process of its own where these descriptors are open, and inherited."""
    os.closerange(FIRST, FIRST + 100)  # the test runner may have got that far
    source = os.open("/dev/null", os.O_RDONLY)
    for fd in open_fds:
        os.dup2(source, fd)
    environment["LISTEN_PID"] = str(os.getpid())
    found: list[InheritedDescriptor] = listen_fds(environment, pid=os.getpid(), first=FIRST)
    return [(each.fd, each.name, os.get_inheritable(each.fd)) for each in found]
