"""Faults of an outbound server: of its receiver while it queues, of its deliverer while it relays.

Each has one host on loopback that takes all mail. What was acknowledged has to arrive there; what
waits longer than it would by itself, since a deliverer that met with trouble tries again after a
minute, is counted, and sent on by the operator's wish.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pfsmtp.mailqueue.entry import Selection, Wish
from tests.delivery.hosts import Host
from tests.faults.injection import Fault, Injection
from tests.faults.lane import ServerLane, message
from tests.faults.matrix import Tally
from tests.faults.smtp import send
from tests.nameserver import NameServer
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import spool, views
from tests.running.program import eventually

RECEIVER_CALLS = (
    "accept4", "clone3", "close", "epoll_ctl", "epoll_wait", "fcntl", "fdatasync", "fsync",
    "getdents64", "getsockname", "mmap", "newfstatat", "openat", "poll", "pread64", "pwritev",
    "recvfrom", "renameat2", "sendto", "write", "writev",
)  # fmt: skip
DELIVERER_CALLS = (
    "clone3", "close", "connect", "epoll_create1", "epoll_ctl", "epoll_wait", "fcntl",
    "fdatasync", "mmap", "openat", "poll", "pread64", "pwritev", "read", "readv", "recvfrom",
    "sendto", "setsockopt", "socket", "unlinkat", "write",
)  # fmt: skip

SAFE_ONLY_WITH = frozenset({"fdatasync", "fsync", "pwritev", "renameat2", "writev"})
"""Where a failure leaves a message that is not safe."""

LINK = frozenset({"mmap", "poll", "recvfrom", "sendto"})
"""Where a failure may cost the reply of a host that has taken the message."""


_BY_ITSELF = 2.0
"""Seconds in which what fails is tried again, unless it was put off for longer."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is sent; `{}` in a recipient makes its domain one of this message only."""

    recipients: tuple[str, ...] = ("user@good.test",)
    size: int = 100
    fresh: bool = False
    """The queue has no files yet."""


QUEUEING = {
    "one": Scenario(),
    "three": Scenario(("user@a.wild.test", "user@b.wild.test", "user@c.wild.test")),
    "large": Scenario(size=200_000),
    "empty": Scenario(fresh=True),
}
RELAYING = {
    "kept": Scenario(),
    "unknown": Scenario(("user@d{}.wild.test",)),
    "long": Scenario(size=200_000),
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A message, and what happened meanwhile."""

    octets: bytes
    recipients: tuple[str, ...]
    reply: str
    fault: Fault | None = None

    @property
    def id(self) -> str:
        """What the server calls it, if it has taken it."""
        found = re.search(r"[0-9A-F]{16}", self.reply)
        return found[0] if found else ""


class World:
    """The host that takes all mail, and the name server that leads to it."""

    def __init__(self, internet: Internet, host: Host, names: NameServer) -> None:
        self.internet = internet
        self.host = host
        self.names = names

    def copies(self) -> tuple[Counter[tuple[str, str]], dict[str, list[bytes]]]:
        """How often each recipient has each message, by its name; and all messages."""
        counts: Counter[tuple[str, str]] = Counter()
        octets: dict[str, list[bytes]] = {}
        for stored in tuple(self.host.stored):
            name = _name_in(stored.octets)
            octets.setdefault(name, []).append(stored.octets)
            for line in stored.recipients:
                counts[name, line.partition(b"<")[2].partition(b">")[0].decode()] += 1
        return counts, octets

    def has(self, name: str) -> bool:
        subject = f"Subject: {name}\r\n".encode()
        return any(subject in stored.octets for stored in reversed(tuple(self.host.stored)))


@contextmanager
def world(directory: Path) -> Iterator[World]:
    internet = Internet()
    address = internet.address()
    internet.domain("good", address)
    internet.record("*.wild MX 10 mx1-good")
    with ExitStack() as stack:
        host = stack.enter_context(Host(address=address, port=internet.port))
        yield World(internet, host, stack.enter_context(internet.name_server(directory)))


class OutboundLane(ServerLane):
    """Implements `matrix.Lane`: faults of the worker of one role."""

    def __init__(self, directory: Path, tally: Tally, lane: int, *, world: World) -> None:
        server = outbound(
            directory,
            world.internet,
            world.names,
            workers={"processes": 1, "deliverers": 1},
            schedule={"retries": ["300 ms"]},
            relay={"back_off": "100 ms", "back_off_most": "300 ms"},
        )
        super().__init__(server, tally, lane)
        self._world = world
        self._sent: dict[str, Sent] = {}

    def settle(self) -> None:
        """Wait until the queue is empty, then see who has what."""
        self._send_on()
        counts, octets = self._world.copies()
        bad = [f"{name}: {what}" for name, what in self._judge(counts, octets)]
        assert not bad, "; ".join(bad)

    def renew(self) -> None:
        self.server.kill()
        self.server.start()

    def post(self, name: str, play: Scenario, fault: Fault | None) -> str:
        """Send a message of that name; return the reply."""
        octets = message(name, play.size)
        recipients = tuple([each.format(name) for each in play.recipients])
        reply = send(self.server.port, list(recipients), octets)
        self._sent[name] = Sent(octets, recipients, reply, fault)
        return reply

    def note(self, name: str, times: int) -> None:
        """Count a case if the fault came about; else forget that there was to be one."""
        sent = self._sent[name]
        if times and sent.fault is not None:
            self.count(sent.fault, times, sent.reply)
        else:
            self._sent[name] = Sent(sent.octets, sent.recipients, sent.reply)

    def check_next(self) -> None:
        """See that the next message is taken, and relayed."""
        name = self.new_name()
        reply = self.post(name, Scenario(), None)
        assert reply.startswith("250"), f"the next message: {reply!r}"
        eventually(lambda: self._world.has(name), what="the next message at its host")

    def _send_on(self) -> None:
        """Have sent on what waits for longer than a moment."""
        end = time.monotonic() + _BY_ITSELF
        while not self._is_empty():
            if time.monotonic() > end:
                self._retry()
                eventually(self._is_empty, what="an empty queue")
            time.sleep(0.01)

    def _is_empty(self) -> bool:
        return not views(self.server)

    def _retry(self) -> None:
        with closing(spool(self.server)) as queue:
            self.tally.tried_again_by_operator += queue.carry_out(Wish.RETRY, Selection())

    def _judge(
        self, counts: Counter[tuple[str, str]], octets: dict[str, list[bytes]]
    ) -> Iterator[tuple[str, str]]:
        """What is wrong with which message."""
        unrecorded = {event["id"] for event in self.logged(0, "queue-write-failed")}
        for name, sent in self._sent.items():
            for each in octets.get(name, []):
                if not each.endswith(sent.octets):
                    self.tally.partial += 1
                    yield name, f"a part arrived, of {len(each)} octets ({sent.fault})"
            for recipient in sent.recipients:
                count = counts[name, recipient]
                if sent.reply.startswith("250") and not count:
                    self.tally.lost += 1
                    yield name, f"acknowledged and lost ({sent.fault})"
                if sent.reply.startswith("4") and count:
                    yield name, f"refused and sent ({sent.fault})"
                if count > 1:
                    self.tally.duplicated += 1
                    # Before it could be recorded after all, another fault may have killed him.
                    if not self.may_double(sent.fault) and sent.id not in unrecorded:
                        yield name, f"sent {count} times ({sent.fault})"

    def may_double(self, fault: Fault | None) -> bool:
        """Whether a host may have been sent a message twice (O3)."""
        return False


class ReceiverLane(OutboundLane):
    """Faults while a message is put."""

    def attempt(self, scenario: str, fault: Fault) -> int:
        play = QUEUEING[scenario]
        if play.fresh:
            self._empty_queue()
        worker = self.worker("receiver")
        name = self.new_name()
        start = self.log_size()
        with self.injection(worker, fault) as injection:
            reply = self.post(name, play, fault)
            self._await(injection, lambda: bool(self.logged(start, "connection")))
        times = injection.count
        self.note(name, times)
        assert reply[:3] == "250" or reply[:1] == "4" or reply == "", f"replied {reply!r}"
        if times and fault.call in SAFE_ONLY_WITH and fault.error != "EINTR" and not fault.kills:
            assert not reply.startswith("250"), "acknowledged, though it is not safe"
        self.check_next()
        self.check_worker("receiver", worker, fault if times else None)
        return times

    def _empty_queue(self) -> None:
        self._send_on()
        self.server.stop()
        shutil.rmtree(self.server.directory / "queue")
        self.server.start()

    def _await(self, injection: Injection, condition: Callable[[], bool]) -> None:
        eventually(lambda: injection.count > 0 or condition(), what="the end of the connection")


class DelivererLane(OutboundLane):
    """Faults while a message is relayed, and that is recorded."""

    def attempt(self, scenario: str, fault: Fault) -> int:
        worker = self.worker("deliverer")
        name = self.new_name()
        start = self.log_size()
        with self.injection(worker, fault) as injection:
            reply = self.post(name, RELAYING[scenario], fault)
            assert reply.startswith("250"), f"replied {reply!r}"
            eventually(
                lambda: injection.count > 0 or bool(self.logged(start, "delivered")),
                what="the delivery",
            )
        times = injection.count
        self.note(name, times)
        self.check_next()
        self.check_worker("deliverer", worker, fault if times else None)
        return times

    def may_double(self, fault: Fault | None) -> bool:
        return fault is not None and (fault.kills or fault.call in LINK)


def _name_in(octets: bytes) -> str:
    found = re.search(rb"^Subject: (\S+)\r$", octets, re.MULTILINE)
    return found[1].decode() if found else "?"
