"""The systemd units deny a server nothing that it does."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests import needs
from tests.running.program import ROOT, Program, eventually, free_port
from tests.sendmail import front

SMALL = b"Subject: small\r\n\r\na\r\n"
LARGE = b"Subject: large\r\n\r\n" + 3 * (1 << 20) // 64 * (b"x" * 62 + b"\r\n")


def let_through(unit: Path) -> set[str]:
    """The system calls that a unit lets through, its groups written out."""
    wanted = re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    analyze = needs.tool("systemd-analyze", package="systemd")
    names, found = " ".join(wanted).split(), set[str]()
    while names:
        name = names.pop()
        if name in found:
            continue
        found.add(name)
        if name.startswith("@"):
            shown = subprocess.run(
                [analyze, "syscall-filter", name], capture_output=True, text=True, check=True
            )
            names += re.findall(r"^ +([@\w][\w-]*)", shown.stdout, re.MULTILINE)
    return found


def traced(server: Program, use: Callable[[], None]) -> set[str]:
    """The system calls that a server makes from its start to its end, used, reloaded, drained."""
    trace = server.directory / "strace"
    server.start(prefix=(needs.tool("strace"), "-f", "-qq", "-o", str(trace)))
    (master,) = server.workers()  # strace is who was started
    use()
    server.log.rename(server.directory / "log.1")
    os.kill(master, signal.SIGUSR1)
    eventually(server.log.exists)
    os.kill(master, signal.SIGHUP)
    server.await_event("generation-ready")
    os.kill(master, signal.SIGTERM)
    server.wait()
    made = re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE)
    assert len(set(made)) > 50
    return set(made)


def send(port: int, *recipients: str, message: bytes = SMALL, tls: bool = False) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        if tls:
            client.starttls(context=ssl._create_unverified_context())
        client.sendmail("postmaster@[127.0.0.1]", recipients, message)


def test_unit_lets_through_all_system_calls_of_the_inbound_server(tmp_path: Path) -> None:
    server = Program.inbound(tmp_path)

    def use() -> None:
        send(server.port, "alice@example.org", tls=True)
        send(server.port, "alice@example.org", "bob@example.org", message=LARGE)

    made = traced(server, use)
    assert made - let_through(ROOT / "conf" / "pfsmtp-inbound.service") == set()


def test_unit_lets_through_all_system_calls_of_the_outbound_server(tmp_path: Path) -> None:
    with Program.inbound(tmp_path / "remote") as remote:
        port = free_port()
        sections = {
            "role": "outbound",
            "hostname": "mail.example.org",
            "listen": {"smtp": [f"127.0.0.1:{port}"], "sendmail": "socket"},
            "queue": {"directory": "queue"},
            "relay": {"port": remote.port, "loopback": True},
            "log": {"format": "json", "file": "log.json"},
        }
        server = Program(tmp_path / "server", sections, port=port)
        socket = server.directory / "socket"
        sendmail = (front.build(tmp_path / "front"), "-f", "", "postmaster@[127.0.0.1]")

        def use() -> None:
            for message in (SMALL, LARGE):
                send(port, "postmaster@[127.0.0.1]", message=message)
            subprocess.run(sendmail, input=SMALL, env=front.environment(socket), check=True)
            send(port, "nosuch@[127.0.0.1]")  # of which a bounce comes
            server.await_event("delivered", count=3)
            server.await_event("notice-queued")

        made = traced(server, use)
    assert made - let_through(ROOT / "conf" / "pfsmtp-outbound.service") == set()
