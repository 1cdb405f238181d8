"""What the processes of a running server can do, and what they depend on."""

from __future__ import annotations

import os
import signal
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfsmtp.process import landlock
from tests import needs
from tests.running.program import Program, Talk, eventually

MESSAGE = b"Subject: a\r\n\r\nb\r\n"


def deliver(server: Program, recipient: str = "alice@example.org") -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.sendmail("sender@example.net", [recipient], MESSAGE)


def certificate_shown(server: Program) -> bytes | None:
    context = ssl._create_unverified_context()
    with smtplib.SMTP_SSL("127.0.0.1", server.smtps_port, timeout=20, context=context) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.getpeercert(binary_form=True)


@pytest.fixture
def confined(inbound: Program) -> Program:
    needs.landlock(2)
    return inbound


def test_workers_reach_nothing_but_the_directory_of_the_mail(confined: Program) -> None:
    mail = confined.directory / "mail"
    deliver(confined)
    # Another directory of that name has no mail in it that a worker was given.
    mail.rename(confined.directory / "moved")
    mail.mkdir()
    eventually(lambda: _refused_at_the_end(confined), what="refused")
    assert list(mail.rglob("*")) == []
    confined.reload()
    deliver(confined)
    assert len(confined.stored("alice")) == 1


def _refused_at_the_end(server: Program) -> bool:
    """Whether the kernel refuses the delivery; a Maildir stays open for a moment after a look."""
    with Talk(server.port) as client:
        client.begin()
        return client.say(b"Subject: a\r\n\r\nb\r\n.").startswith("451")


def test_the_log_says_what_confines_the_workers(inbound: Program) -> None:
    (event,) = inbound.events("confinement")
    assert event["landlock"] == landlock.abi()
    assert event["lacking"] == landlock.lacking(landlock.abi())


def test_confined_workers_write_to_a_log_that_was_rotated(confined: Program) -> None:
    rotated = confined.directory / "log.1"
    deliver(confined)
    confined.log.rename(rotated)
    confined.signal(signal.SIGUSR1)
    eventually(confined.log.exists)
    deliver(confined)
    confined.await_event("message-accepted")
    assert rotated.read_text().count('"message-accepted"') == 1


def test_a_reload_brings_what_workers_cannot_read_themselves(confined: Program) -> None:
    before = certificate_shown(confined)
    for file in (confined.directory / "tls").iterdir():
        file.unlink()
    (confined.directory / "users").write_text("carol : carol@example.org\n")
    confined.reload()
    deliver(confined, "carol@example.org")
    assert len(confined.stored("carol")) == 1
    assert certificate_shown(confined) != before


def test_a_crash_tells_where_it_was_and_leaves_no_core(inbound: Program) -> None:
    (pid, _) = inbound.workers()
    os.kill(pid, signal.SIGSEGV)
    (event,) = inbound.await_event("worker-died")
    assert event["pid"] == pid
    text = inbound.errors.read_text()
    assert "Fatal Python error: Segmentation fault" in text
    assert "worker.py" in text
    assert list(inbound.directory.glob("core*")) == []
    deliver(inbound)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Program]:
    """A server that was started with no standard descriptors and no umask."""
    server = Program.inbound(tmp_path)
    server.start(prefix=("sh", "-c", 'umask 0; exec "$@" <&- >&- 2>&-', "sh"))
    try:
        yield server
    finally:
        server.stop()


def test_standard_descriptors_are_never_anything_else(bare: Program) -> None:
    needs.root()  # to look into processes that let nobody do it
    for pid in [bare.pid, *bare.workers()]:
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == [os.devnull] * 3
    deliver(bare)
    assert len(bare.stored("alice")) == 1


def test_what_is_made_is_for_its_owner_only_whatever_the_umask(bare: Program) -> None:
    deliver(bare)
    made = [bare.log, *(bare.directory / "tls").iterdir(), *(bare.directory / "mail").rglob("*")]
    assert len(made) > 6
    assert [path for path in made if path.stat().st_mode & 0o077] == []
    for pid in [bare.pid, *bare.workers()]:
        assert "Umask:\t0077\n" in Path(f"/proc/{pid}/status").read_text()
