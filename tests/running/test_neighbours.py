"""Bad neighbours: while each does its worst, a well-behaved client delivers.

The figures are the share of its messages that were accepted, and the 99th percentile of the time
they took.
"""

from __future__ import annotations

import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.figures import Show
from tests.running.measure import MIB, pss
from tests.running.namespace import CLIENTS, LOOPBACK, Namespace, namespace
from tests.running.neighbour import Neighbour, Served
from tests.running.program import PATIENCE, Program, Talk, any_server, eventually

SHORT = 1.5
LONG = 30.0
"""Seconds that somebody misbehaves."""
LATE = 5.0
"""Seconds in which nearly all messages of the others are accepted, on a busy machine."""
CROWD = 200
RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: close with a reset."""

Attack = Callable[[Program, float], None]


def rounds(until: float, *, pause: float = 0.0) -> Iterator[None]:
    """Go round until then."""
    while time.monotonic() < until:
        yield
        time.sleep(pause)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def drip(port: int, until: float, *, first: bytes = b"", endless: bytes = b"x") -> None:
    """A crowd of clients send this, and then an octet now and then."""
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(port)) for _ in range(CROWD)]
        for sock in socks:
            sock.sendall(first)
        for _ in rounds(until, pause=0.1):
            for sock in socks:
                with suppress(OSError):
                    sock.sendall(endless)


def slow_commands(server: Program, until: float) -> None:
    drip(server.port, until, first=b"EHLO ")


def slow_data(server: Program, until: float) -> None:
    envelope = b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
    drip(server.port, until, first=envelope)


def slow_handshakes(server: Program, until: float) -> None:
    # The header of a ClientHello that is to be long.
    drip(server.smtps_port, until, first=b"\x16\x03\x01\x3f\x00\x01\x00\x3e\xfc", endless=b"\3")


def flood(port: int, until: float, endless: bytes, *, first: bytes = b"", reads: bool) -> None:
    """Twenty clients send this without end, as fast as they can; who is told to go comes again."""
    left: dict[socket.socket, bytes] = {}
    with ExitStack() as stack:
        for _ in rounds(until):
            while len(left) < 20:
                sock = stack.enter_context(connect(port))
                sock.setblocking(False)
                left[sock] = first
            _, writable, _ = select.select([], left, [], 0.01)
            for sock in writable:
                rest = left[sock] or endless
                try:
                    left[sock] = rest[sock.send(rest) :]
                    if reads:
                        sock.recv(1 << 16)
                except BlockingIOError:
                    pass
                except OSError:
                    del left[sock]
                    sock.close()


def never_reading(server: Program, until: float) -> None:
    flood(server.port, until, 2000 * b"NOOP\r\n", reads=False)


def connect_and_reset(server: Program, until: float) -> None:
    for _ in rounds(until):
        with connect(server.port) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def connect_and_leave(server: Program, until: float) -> None:
    for _ in rounds(until):
        connect(server.smtps_port).close()


def handshakes(server: Program, until: float) -> None:
    context = any_server()
    for _ in rounds(until):
        with connect(server.smtps_port) as sock, context.wrap_socket(sock):
            pass


def noops(server: Program, until: float) -> None:
    flood(server.port, until, 1000 * b"NOOP\r\n", reads=True)


def hellos(server: Program, until: float) -> None:
    flood(server.port, until, 1000 * b"EHLO me\r\n", reads=True)


def recipients_for_nothing(server: Program, until: float) -> None:
    transaction = b"MAIL FROM:<>\r\n" + 500 * b"RCPT TO:<r@catch.example>\r\n" + b"RSET\r\n"
    flood(server.port, until, transaction, first=b"HELO me\r\n", reads=True)


def tiny_chunks(server: Program, until: float) -> None:
    envelope = b"HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<r@catch.example>\r\n"
    flood(server.port, until, 500 * b"BDAT 1\r\nx", first=envelope, reads=True)


def hundred_thousand_recipients(server: Program, until: float) -> None:
    recipients = b"".join(b"RCPT TO:<r%d@catch.example>\r\n" % n for n in range(100_000))
    for _ in rounds(until):
        with Talk(server.port) as client, suppress(OSError):
            client.greet()
            client.say("MAIL FROM:<sender@example.net>")
            client.send(recipients)
            while client.hear():
                pass


def unknown_users(server: Program, until: float) -> None:
    for turn, _ in enumerate(rounds(until)):
        with Talk(server.port) as client, suppress(OSError):
            client.greet()
            client.say("MAIL FROM:<sender@example.net>")
            for user in range(9):
                client.say(f"RCPT TO:<user{turn}.{user}@example.org>")


def garbage(server: Program, until: float) -> None:
    for turn, _ in enumerate(rounds(until)):
        with connect(server.port) as sock, suppress(OSError):
            sock.sendall(bytes((turn + n * n) % 256 for n in range(4096)))
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 16):
                pass


def large_messages_broken_off(server: Program, until: float) -> None:
    for _ in rounds(until):
        with Talk(server.port) as client, suppress(OSError):
            client.begin()
            client.send(2 * MIB * b"x\r\n")


ATTACKS: list[Attack] = [
    slow_commands,
    slow_data,
    slow_handshakes,
    never_reading,
    connect_and_reset,
    connect_and_leave,
    handshakes,
    noops,
    hellos,
    recipients_for_nothing,
    tiny_chunks,
    hundred_thousand_recipients,
    unknown_users,
    garbage,
    large_messages_broken_off,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Held to this: no worker has died of what was done to it, nothing was a bug."""
    with Program.inbound(tmp_path_factory.mktemp("neighbours")) as server:
        workers = server.workers()
        yield server
        assert server.workers() == workers
        assert server.events("connection-bug") == []
        eventually(lambda: server.leftovers() == [])


def hold(served: Served, server: Program) -> None:
    assert served.failures == []
    assert served.p99 < LATE
    # What was sent before the count began is one more.
    assert len(server.take("bob")) == len(served.seconds) + 1


def suffer(server: Program, attack: Attack, seconds: float, show: Show) -> None:
    with Neighbour(server.port) as neighbour:
        attack(server, time.monotonic() + seconds)
    name = attack.__name__.replace("_", " ")
    show(f"A neighbour of {name}", [str(neighbour.served)])
    hold(neighbour.served, server)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_well_behaved_client_delivers_beside(server: Program, show: Show, attack: Attack) -> None:
    suffer(server, attack, SHORT, show)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_well_behaved_client_delivers_beside_for_long(
    server: Program, show: Show, attack: Attack
) -> None:
    suffer(server, attack, LONG, show)


# -- idle connections


def beside_idle(directory: Path, count: int, show: Show) -> None:
    """Hold so many idle connections while a client delivers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 200:
        pytest.skip(f"needs {count + 200} descriptors; `ulimit -Hn` says {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
    workers = {"processes": 2, "connections": count}
    with Program.inbound(directory, workers=workers) as server, ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(connect(server.port))
            assert client.recv(512).startswith(b"220")
        with Neighbour(server.port) as neighbour:
            time.sleep(SHORT)
        memory = sum(map(pss, server.workers())) >> 20
        show(f"A neighbour of {count} idle", [f"{neighbour.served}, {memory} MiB in all workers"])
        hold(neighbour.served, server)


def test_well_behaved_client_delivers_beside_two_thousand_idle(tmp_path: Path, show: Show) -> None:
    beside_idle(tmp_path, 2_000, show)


@pytest.mark.slow
def test_well_behaved_client_delivers_beside_ten_thousand_idle(tmp_path: Path, show: Show) -> None:
    beside_idle(tmp_path, 10_000, show)


# -- one client against the limits


@pytest.fixture
def network() -> Iterator[Namespace]:
    with namespace() as network:
        yield network


def test_client_that_takes_all_it_can_leaves_room_for_others(
    tmp_path: Path, network: Namespace, show: Show
) -> None:
    """It is of another machine, comes again and again, and keeps each connection that it gets."""
    limits = {"greeting_delay": "0 s", "client_rate": 1_000_000}
    server = Program.inbound(tmp_path, limits=limits, workers={"processes": 1, "connections": 40})
    server.reconfigure(listen={"smtp": [f"0.0.0.0:{server.port}"], "smtps": []})
    server.prefix = network.prefix
    kept, turned_away = 0, 0
    with server, ExitStack() as stack:
        with Neighbour(server.port, host=LOOPBACK, prefix=network.prefix) as neighbour:
            for _ in rounds(time.monotonic() + SHORT):
                client = stack.enter_context(network.connect(server.port, CLIENTS[0]))
                if client.hear().startswith("220"):
                    kept += 1
                else:
                    turned_away += 1
        served = neighbour.served
        show("A neighbour of one who takes all", [f"{served}; {kept} kept, {turned_away} not"])
        hold(served, server)
    assert kept == 20
    assert turned_away > 20
