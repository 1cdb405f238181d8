"""Sockets that come from systemd (sd_listen_fds(3)), and what it is told (sd_notify(3))."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pfsmtp.process.service import Timing
from tests import needs
from tests.running import activate
from tests.running.program import PATIENCE, ROOT, Program, Talk, eventually, free_port
from tests.sendmail import front


def deliver(port: int, *, implicit_tls: bool = False) -> None:
    with Talk(port) as client:
        if implicit_tls:
            client.secure()
        client.begin()
        assert client.say("Subject: x\r\n.").startswith("250")


def activated(directory: Path, *, outbound: str = "", **sockets: socket.socket) -> Program:
    """A server that is given these sockets under their names; it is to be started still.

    An outbound one takes messages from programs at that path.
    """
    if outbound:
        server = Program.outbound(directory, listen={"sendmail": outbound})
    else:
        server = Program.inbound(directory)
    server.inherited = tuple(sock.fileno() for sock in sockets.values())
    given = ",".join(f"{sock.fileno()}:{name}" for name, sock in sockets.items())
    server.prefix = (sys.executable, activate.__file__, given)
    return server


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two listening sockets, which stay open as long as the test."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        yield one, other


def test_sockets_of_configured_addresses_are_taken_for_them(
    tmp_path: Path, sockets: tuple[socket.socket, socket.socket]
) -> None:
    smtp, smtps = sockets
    server = activated(tmp_path, one=smtp, other=smtps)
    listen = {"smtp": [f"127.0.0.1:{port_of(smtp)}"], "smtps": [f"127.0.0.1:{port_of(smtps)}"]}
    server.reconfigure(listen=listen)
    with server:
        deliver(port_of(smtp))
        deliver(port_of(smtps), implicit_tls=True)
        assert len(server.stored("alice")) == 2


def test_sockets_of_no_configured_address_serve_as_their_names_say(
    tmp_path: Path, sockets: tuple[socket.socket, socket.socket]
) -> None:
    smtp, smtps = sockets
    with activated(tmp_path, smtp=smtp, smtps=smtps) as server:
        deliver(port_of(smtp))
        deliver(port_of(smtps), implicit_tls=True)
        # What the configuration names is bound as ever.
        deliver(server.port)
        assert len(server.stored("alice")) == 3


def test_sockets_serve_on_after_a_reload(
    tmp_path: Path, sockets: tuple[socket.socket, socket.socket]
) -> None:
    with activated(tmp_path, smtp=sockets[0]) as server:
        server.reload()
        deliver(port_of(sockets[0]))


def test_client_that_comes_while_the_server_restarts_waits(
    tmp_path: Path, sockets: tuple[socket.socket, socket.socket]
) -> None:
    server = activated(tmp_path, smtp=sockets[0])
    with server:
        deliver(port_of(sockets[0]))
        assert server.stop() == 0
        with Talk(port_of(sockets[0])) as early:
            server.start()
            early.begin()
            assert early.say("Subject: early\r\n.").startswith("250")
    assert len(server.stored("alice")) == 2


def test_program_that_sends_while_the_outbound_server_restarts_waits(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    program = front.build(tmp_path / "front", python="#!/bin/false\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sendmail:
        sendmail.bind(str(path))
        sendmail.listen()
        server = activated(tmp_path / "server", sendmail=sendmail, outbound=str(path))
        with server:
            assert send(program, path).wait(PATIENCE) == 0
            server.reload()
            assert send(program, path).wait(PATIENCE) == 0
            assert server.stop() == 0
            early = send(program, path)
            server.start()
            assert early.wait(PATIENCE) == 0
            assert len(server.events("message-accepted")) == 3


def send(program: Path, path: Path) -> subprocess.Popen[bytes]:
    """A program that sends a message to nobody who is there, by that socket."""
    started = subprocess.Popen(
        (program, "-f", "", "someone@[192.0.2.1]"),
        stdin=subprocess.PIPE,
        env=front.environment(path),
    )
    assert started.stdin is not None
    started.stdin.close()
    return started


def test_variables_for_another_process_are_not_for_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with Program.inbound(tmp_path) as server:
        deliver(server.port)


def test_systemd_socket_activate_starts_it_with_the_first_client(tmp_path: Path) -> None:
    launcher = needs.tool("systemd-socket-activate", package="systemd")
    port = free_port()
    server = Program.inbound(tmp_path, listen={"smtp": [f"127.0.0.1:{port}"], "smtps": []})
    environment = [f"--setenv={name}" for name in ("PYTHONPATH", "PYTHONWARNINGS")]
    server.prefix = (launcher, f"--listen=127.0.0.1:{port}", *environment)
    with ExitStack() as stack:
        server.start(ready=False)
        stack.push(server.__exit__)
        client = stack.enter_context(first_client(port))
        client.begin()
        assert client.say("Subject: first\r\n.").startswith("250")
        deliver(port)
        assert len(server.stored("alice")) == 2


def first_client(port: int) -> Talk:
    """Connect as soon as somebody listens."""
    talks: list[Talk] = []

    def connects() -> bool:
        try:
            talks.append(Talk(port))
        except ConnectionRefusedError:
            return False
        return True

    eventually(connects)
    return talks[0]


# -- what is told


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where a service manager listens."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield manager


def told(manager: socket.socket) -> dict[str, str]:
    """The next notification, as the variables it assigns."""
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def test_manager_is_told_of_start_reload_and_stop(tmp_path: Path, manager: socket.socket) -> None:
    server = Program.inbound(tmp_path)
    with server:
        pid = str(server.pid)
        assert told(manager) == {"READY": "1", "MAINPID": pid, "STATUS": "generation 1"}
        # It is ready when it says so: nobody need try again.
        deliver(server.port)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.signal(signal.SIGHUP)
        reloading = told(manager)
        assert reloading["RELOADING"] == "1"
        assert before <= int(reloading["MONOTONIC_USEC"]) < before + PATIENCE * 1e6
        assert told(manager) == {"READY": "1", "MAINPID": pid, "STATUS": "generation 2"}
        server.signal(signal.SIGTERM)
        assert told(manager)["STOPPING"] == "1"
        assert server.wait() == 0


def test_manager_that_watches_gets_signs_of_life(
    tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with Program.inbound(tmp_path):
        heard = [told(manager) for _ in range(8)]
    assert heard.count({"WATCHDOG": "1"}) == 7


@pytest.mark.parametrize("role", ["inbound", "outbound"])
def test_unit_watches_for_longer_than_it_takes_to_replace_who_hangs(role: str) -> None:
    unit = (ROOT / "conf" / f"pfsmtp-{role}.service").read_text(encoding="utf-8")
    (seconds,) = re.findall(r"^WatchdogSec=(\d+)$", unit, re.MULTILINE)
    timing = Timing()
    assert int(seconds) > 2 * (timing.stuck + timing.quit)
    # And than the longest pauses before a worker that keeps failing is tried again, twice.
    assert int(seconds) > 2 * (timing.backoff_limit + timing.steady)
    # And for longer than the master lets pass between two rounds.
    assert int(seconds) / 4 > timing.beat


def test_manager_is_told_why_a_reload_failed(tmp_path: Path, manager: socket.socket) -> None:
    with Program.inbound(tmp_path) as server:
        assert told(manager)["READY"] == "1"
        server.reconfigure(limits={"message_size": "fifty"})
        server.signal(signal.SIGHUP)
        assert told(manager)["RELOADING"] == "1"
        ready = told(manager)
        assert ready["READY"] == "1"
        assert re.match(r"generation 1; reload failed: .*message_size", ready["STATUS"])


def test_manager_is_not_told_of_a_start_that_failed(tmp_path: Path, manager: socket.socket) -> None:
    server = Program.inbound(tmp_path, limits={"message_size": "fifty"})
    server.start(ready=False)
    assert server.wait() == 1
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
