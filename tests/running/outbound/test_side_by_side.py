"""Both servers as they are shipped, side by side: a program's mail gets into a user's Maildir.

Of the files in `conf/` only what a test cannot have is changed: ports, the place of `var`, and that
the mail host of example.org is on this machine, which a name server for tests says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nameserver import NameServer
from tests.running.outbound.post import outcome, queue, sendmail, views, waiting
from tests.running.program import ROOT, Program, eventually, free_port

ALICE = "alice@example.org"


def shipped(directory: Path, role: str, changes: dict[str, str], *, port: int) -> Program:
    """The server of `conf/{role}.toml`, with some of its text replaced."""
    text = (ROOT / "conf" / f"{role}.toml").read_text()
    for old, new in {'format = "logfmt"': 'format = "json"\nfile = "log.json"', **changes}.items():
        assert old in text
        text = text.replace(old, new)
    conf = directory / role
    server = Program(conf, {}, port=port)
    server.config.write_text(text)
    (conf / "users").write_text((ROOT / "conf" / "users").read_text())
    return server


@pytest.fixture
def inbound(tmp_path: Path) -> Iterator[Program]:
    port, smtps = free_port(), free_port()
    changes = {
        "0.0.0.0:2525": f"127.0.0.1:{port}",
        "[::]:2525": f"[::1]:{port}",
        "0.0.0.0:4465": f"127.0.0.1:{smtps}",
        "[::]:4465": f"[::1]:{smtps}",
    }
    with shipped(tmp_path, "inbound", changes, port=port) as server:
        yield server


@pytest.fixture
def outbound(tmp_path: Path, inbound: Program) -> Iterator[Program]:
    port = free_port()
    zone = "@ MX 10 mx\nmx AAAA ::1\nmx A 127.0.0.1\n"
    with NameServer(tmp_path, {"example.org": zone}) as names:
        changes = {
            "2526": str(port),
            "port       = 25": f"port = {inbound.port}",
            "nameserver = []": f'nameserver = ["{names.address}"]\nback_off = "500 ms"',
            "loopback   = false": "loopback = true",
            "[log]": '[schedule]\nretries = ["500 ms"]\n[log]',
        }
        with shipped(tmp_path, "outbound", changes, port=port) as server:
            yield server


def arrived(inbound: Program) -> list[bytes]:
    new = inbound.directory.parent / "var" / "mail" / "alice" / "new"
    return [path.read_bytes() for path in new.glob("*")]


def test_mail_of_a_program_is_in_the_maildir_over_starttls(
    inbound: Program, outbound: Program
) -> None:
    done = sendmail(outbound, ALICE, octets=b"hello\n")
    assert (done.returncode, done.stderr) == (0, b"")
    eventually(lambda: bool(arrived(inbound)), what="a message")
    (message,) = arrived(inbound)
    header, _, text = message.partition(b"\n\n")
    assert text == b"hello\n"
    last, first = header.split(b"\nReceived: ")[1:]
    assert b" with ESMTPS id " in last
    assert b"TLSv1.3" in last
    assert b" with ESMTP id " in first
    assert outcome(outbound, ALICE)["tls"].startswith("TLSv1.3")
    assert views(outbound) == []


def test_mail_for_a_server_that_is_down_waits_says_why_and_arrives_once_it_is_back(
    inbound: Program, outbound: Program
) -> None:
    inbound.stop()
    assert sendmail(outbound, ALICE, octets=b"hello\n").returncode == 0
    waiting(outbound, 1)
    assert "mx.example.org could not be reached (connection refused)" in queue(outbound, "list")
    inbound.start()
    eventually(lambda: bool(arrived(inbound)), what="a message")
    eventually(lambda: views(outbound) == [])
    (message,) = arrived(inbound)
    assert message.endswith(b"\n\nhello\n")
    assert outbound.events("notice-queued") == []
