"""P6: memory and descriptors are flat over any number of sessions; P3: reloads without end."""

from __future__ import annotations

import signal
import smtplib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.figures import Show
from tests.running.measure import descriptors, pss
from tests.running.program import Program, Talk

CLIENTS = 4
WARM = 2_000
"""Sessions until caches are full and arenas grown."""
GROWTH = 2 << 20
"""Octets that a worker may have grown by at the end, however many sessions there were."""
SESSIONS = [
    b"QUIT\r\n",
    b"",
    b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<alice@example.org>\r\n",
    b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<x@example.org>\r\nRSET\r\nNONSENSE\r\nQUIT\r\n",
    b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: broken off\r\n",
]
MESSAGE = (
    b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n"
    b"DATA\r\nSubject: a\r\n\r\nb\r\n.\r\nQUIT\r\n"
)
MESSAGE_EVERY = 50


def hold_sessions(server: Program, count: int) -> None:
    def some(first: int) -> None:
        for number in range(first, count, CLIENTS):
            last = number % MESSAGE_EVERY == 0
            octets = MESSAGE if last else SESSIONS[number % len(SESSIONS)]
            with Talk(server.port) as client, suppress(ConnectionError):
                client.send(octets)
                if octets.endswith(b"QUIT\r\n"):
                    while client.socket.recv(4096):
                        pass

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(some, range(CLIENTS)))


def settle(server: Program) -> dict[int, tuple[int, int]]:
    """Memory and descriptors of each process, once all sessions are over."""
    with Talk(server.port) as client:
        client.greet()
    return {pid: (pss(pid), descriptors(pid)) for pid in (server.pid, *server.workers())}


def stay_flat(server: Program, count: int) -> list[str]:
    hold_sessions(server, WARM)
    before = settle(server)
    server.take("alice")
    hold_sessions(server, count)
    after = settle(server)
    assert after.keys() == before.keys(), "a worker was replaced"
    grown = [after[pid][0] - before[pid][0] for pid in before]
    opened = [after[pid][1] - before[pid][1] for pid in before]
    assert max(grown) < GROWTH
    assert max(opened) <= 2
    assert len(server.files("alice")) == count // MESSAGE_EVERY
    return [
        f"{count} sessions: a process grew by {max(grown) >> 10} KiB at most, "
        f"and has {max(opened)} descriptors more"
    ]


def test_p6_memory_and_descriptors_are_flat_over_twenty_thousand_sessions(
    inbound: Program, show: Show
) -> None:
    show("Sessions", stay_flat(inbound, 20_000))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_p6_memory_and_descriptors_are_flat_over_a_million_sessions(
    inbound: Program, show: Show
) -> None:
    show("Sessions", stay_flat(inbound, 1_000_000))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_p3_thousand_hups_under_load_refuse_nobody_and_lose_nothing(
    inbound: Program, show: Show
) -> None:
    """Its short form is in `test_processes`."""
    hups, over = 1000, threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        loads = [pool.submit(load, inbound.port, over) for _ in range(CLIENTS)]
        try:
            for _ in range(hups):
                inbound.signal(signal.SIGHUP)
                over.wait(0.1)
        finally:
            over.set()
        accepted = sum(each.result() for each in loads)
    stored, generations = len(inbound.files("alice")), len(inbound.events("generation-ready"))
    show(
        f"{hups} HUPs under load",
        [f"{hups} HUPs, {generations} generations, {accepted} messages accepted, {stored} stored"],
    )
    assert stored == accepted > 0
    assert generations > 10  # those that come while one is being made are for the next one


def load(port: int, over: threading.Event) -> int:
    """Deliver until it is over; returns how many were accepted. Whoever is refused raises."""
    accepted = 0
    while not over.is_set():
        try:
            with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
                client.sendmail("sender@example.net", ["alice@example.org"], b"Subject: a\r\n")
                accepted += 1  # whatever is said to the QUIT
        except smtplib.SMTPResponseException as error:
            # A session that a reload ends between transactions: the client comes again.
            if error.smtp_code != 421:
                raise
    return accepted
