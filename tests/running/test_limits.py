"""What takes too long is ended: total budgets, with limits that are short (RFC 5321 §4.5.3.2)."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path

import pytest

from tests.running.measure import MIB, pss
from tests.running.program import PATIENCE, Program, Talk, eventually

BUDGET = 1.0
"""Seconds for a command, and for more of a message."""
SESSION = 2.0
GRACE = 4.0
"""Seconds by which a busy machine may be late."""
PAUSE = 0.05
"""Seconds between the octets of a slow client: far less than any single wait."""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Has little time for a command, or for more of a message."""
    limits = {
        "command": f"{BUDGET} s",
        "data": f"{BUDGET} s",
        "minimum_rate": "1 KiB",
        "minimum_rate_after": f"{BUDGET} s",
        "idle_commands": 10_000_000,
    }
    with Program.inbound(tmp_path_factory.mktemp("hasty"), limits=limits) as server:
        workers = server.workers()
        yield server
        assert server.workers() == workers
        assert server.events("connection-bug") == []


@pytest.fixture(params=[False, True], ids=["clear", "tls"])
def client(hasty: Program, request: pytest.FixtureRequest) -> Iterator[Talk]:
    """Greeted, in clear and under TLS."""
    with Talk(hasty.smtps_port if request.param else hasty.port) as client:
        if request.param:
            client.secure()
        assert client.hear().startswith("220")
        yield client


def keep_sending(client: Talk, pieces: Iterable[bytes]) -> bytes:
    """Send piece after piece, with pauses, until the server closes; returns what it said."""
    heard = b""
    client.socket.settimeout(PAUSE)
    deadline = time.monotonic() + PATIENCE
    try:
        for piece in pieces:
            assert time.monotonic() < deadline, "the server does not close"
            client.socket.sendall(piece)
            try:
                said = client.socket.recv(65536)
            except TimeoutError:
                continue
            if not said:
                break
            heard += said
    except OSError:
        pass
    return heard


def drip(octets: bytes) -> Iterator[bytes]:
    """Octet by octet, and the last of them again and again."""
    return chain((octets[at : at + 1] for at in range(len(octets))), repeat(octets[-1:]))


def assert_ended(started: float, budget: float) -> None:
    assert budget - 0.1 < time.monotonic() - started < budget + GRACE


def assert_serves(server: Program) -> None:
    with Talk(server.port) as client:
        client.begin()
        assert client.say("Subject: as ever\r\n.").startswith("250")
    assert len(server.take("alice")) == 1
    assert server.leftovers() == []


def test_p5_silence_instead_of_a_command_is_ended(hasty: Program, client: Talk) -> None:
    started = time.monotonic()
    assert client.hear().startswith("421 4.4.2")
    assert client.closed()
    assert_ended(started, BUDGET)
    assert_serves(hasty)


def test_p5_command_by_octets_does_not_stretch_its_budget(hasty: Program, client: Talk) -> None:
    started = time.monotonic()
    assert keep_sending(client, drip(b"NOOP x")).startswith(b"421 4.4.2")
    assert_ended(started, BUDGET)
    assert_serves(hasty)


def test_p5_tls_record_by_octets_does_not_stretch_the_budget(hasty: Program) -> None:
    with Talk(hasty.smtps_port) as client:
        client.secure().hear()
        started = time.monotonic()
        try:
            # The header of a long record of application data, and octets of it without end.
            for piece in drip(b"\x17\x03\x03\x40\x00x"):
                socket.socket.send(client.socket, piece)
                assert time.monotonic() < started + PATIENCE
                if ended(client, PAUSE):
                    break
        except OSError:
            pass
        assert_ended(started, BUDGET)
    assert_serves(hasty)


def ended(client: Talk, wait: float) -> bool:
    """Whether the server closes within so many seconds; what it says is passed over."""
    client.socket.settimeout(wait)
    try:
        while socket.socket.recv(client.socket, 65536):
            pass
    except TimeoutError:
        return False
    return True


def test_p5_silence_within_a_message_is_ended(hasty: Program, client: Talk) -> None:
    client.hello()
    client.envelope()
    client.send(b"Subject: begun\r\n")
    started = time.monotonic()
    assert client.hear().startswith("421 4.4.2")
    assert client.closed()
    assert_ended(started, BUDGET)
    assert_serves(hasty)


def test_p5_message_below_the_minimum_rate_is_ended(hasty: Program, client: Talk) -> None:
    client.hello()
    client.envelope()
    started = time.monotonic()
    assert keep_sending(client, drip(b"Subject: slow\r\n\r\nx")).startswith(b"421 4.4.2")
    assert_ended(started, BUDGET)
    assert_serves(hasty)


def test_message_above_the_minimum_rate_takes_its_time(hasty: Program, client: Talk) -> None:
    client.hello()
    client.envelope()
    started = time.monotonic()
    while time.monotonic() - started < 1.5 * BUDGET:
        assert not select.select([client.socket], [], [], PAUSE)[0]
        client.send(1000 * b"x" + b"\r\n")
    assert client.say(".").startswith("250")
    assert len(hasty.take("alice")) == 1


def test_client_that_never_reads_is_cut_off_and_takes_no_memory(hasty: Program) -> None:
    before = most = max(map(pss, hasty.workers()))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(BUDGET + GRACE)
    sock.connect(("127.0.0.1", hasty.port))
    with Talk.over(sock) as client:
        try:
            while True:
                for _ in range(20):
                    client.send(1000 * b"NOOP\r\n")
                most = max(most, *map(pss, hasty.workers()))
        except ConnectionError:
            pass
    assert most - before < 8 * MIB
    eventually(lambda: hasty.events("connection")[-1]["outcome"] == "lost: the peer does not read")
    assert_serves(hasty)


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Has little time for a session as a whole, and takes small messages."""
    budgets = dict.fromkeys(("session", "command", "data", "minimum_rate_after"), f"{SESSION} s")
    limits = {**budgets, "message_size": "1 MiB", "idle_commands": 10_000_000}
    with Program.inbound(tmp_path_factory.mktemp("brief"), limits=limits) as server:
        yield server


def flood(client: Talk, octets: bytes) -> bytes:
    """Send this again and again, faster than it can be read; returns what was said till the end."""
    heard = []

    def listen() -> None:
        with suppress(ConnectionError):
            while said := client.socket.recv(65536):
                heard.append(said)

    listener = threading.Thread(target=listen)
    listener.start()
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            client.send(octets)
    except ConnectionError:
        pass
    listener.join()
    return b"".join(heard)


def test_p5_session_ends_whatever_is_said_and_however_fast(brief: Program) -> None:
    with Talk(brief.port) as client:
        client.hear()
        started = time.monotonic()
        heard = flood(client, 10_000 * b"NOOP\r\n")
        assert heard.rstrip().rpartition(b"\n")[2].startswith(b"421 4.4.2")
        assert_ended(started, SESSION)
    assert_serves(brief)


def test_p5_session_ends_within_a_message_that_does_not(brief: Program) -> None:
    with Talk(brief.port) as client:
        client.begin()
        started = time.monotonic()
        assert flood(client, 1000 * (70 * b"x" + b"\r\n")).startswith(b"421 4.4.2")
        assert_ended(started, SESSION)
    assert_serves(brief)


def test_client_that_errs_is_slowed_and_then_told_to_go(tmp_path: Path) -> None:
    limits = {"errors_slow": 2, "errors_close": 4}
    with Program.inbound(tmp_path, limits=limits) as server, Talk(server.port) as client:
        client.greet()
        seconds = []
        for expected in ("500", "500", "500", "421 4.7.0"):
            started = time.monotonic()
            assert client.say("WHAT").startswith(expected)
            seconds.append(time.monotonic() - started)
        assert client.closed()
        assert seconds[0] < 1 <= min(seconds[1:3])
        assert_serves(server)


def test_client_that_brings_no_mail_is_slowed_and_then_told_to_go(tmp_path: Path) -> None:
    limits = {"idle_commands": 3, "errors_slow": 1, "errors_close": 3}
    with Program.inbound(tmp_path, limits=limits) as server:
        with Talk(server.port) as client:
            client.greet()  # the first
            seconds = []
            for expected in ("250", "250", "250", "250", "421 4.7.0"):
                started = time.monotonic()
                assert client.say("NOOP").startswith(expected)
                seconds.append(time.monotonic() - started)
            assert client.closed()
            assert min(seconds[2:4]) >= 1
        eventually(lambda: len(server.events("refused")) == 1)
        assert "bring no mail" in server.events("refused")[0]["reason"]
        assert_serves(server)


def test_group_without_end_that_brings_no_mail_is_cut_off(inbound: Program) -> None:
    with Talk(inbound.port) as client:
        client.greet()
        heard = flood(client, 1000 * b"RSET\r\n")
        assert heard.count(b"250 2.0.0") < 130
        assert heard.splitlines()[-1].startswith(b"421 4.7.0")
    assert_serves(inbound)


def test_recipients_above_the_limit_are_put_off_and_then_the_client(inbound: Program) -> None:
    with Talk(inbound.port) as client:
        client.greet()
        client.say("MAIL FROM:<sender@example.net>")
        client.send(b"".join(b"RCPT TO:<r%d@catch.example>\r\n" % n for n in range(100_000)))
        answers = [client.hear()[:9] for _ in range(1020)]
        assert answers[:1000] == ["250 2.1.5 "[:9]] * 1000
        assert answers[1000:] == ["452 4.5.3"] * 19 + ["421 4.7.0"]
    assert_serves(inbound)
