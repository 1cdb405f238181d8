"""The systemd units deny a server nothing that it does."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import ssl
import subprocess
from pathlib import Path

from tests import needs
from tests.running.program import ROOT, Program, eventually

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


def use(server: Program) -> None:
    """Have it do all that it does."""
    (master,) = server.workers()  # strace is who was started
    context = ssl._create_unverified_context()
    with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
        client.starttls(context=context)
        client.sendmail("a@example.net", ["alice@example.org"], b"Subject: a\r\n\r\nb\r\n")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
        client.sendmail("a@example.net", ["alice@example.org", "bob@example.org"], LARGE)
    server.log.rename(server.directory / "log.1")
    os.kill(master, signal.SIGUSR1)
    eventually(server.log.exists)
    os.kill(master, signal.SIGHUP)
    server.await_event("generation-ready")
    os.kill(master, signal.SIGTERM)
    server.wait()


def test_unit_lets_through_all_system_calls_of_the_inbound_server(tmp_path: Path) -> None:
    trace = tmp_path / "strace"
    server = Program.inbound(tmp_path)
    server.start(prefix=(needs.tool("strace"), "-f", "-qq", "-o", str(trace)))
    use(server)
    made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert len(made) > 50
    assert made - let_through(ROOT / "conf" / "pfsmtp-inbound.service") == set()
