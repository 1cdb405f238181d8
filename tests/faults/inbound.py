"""Faults of an inbound server with one worker, while it delivers into Maildirs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.faults.injection import Fault, Injection
from tests.faults.lane import ServerLane, message
from tests.faults.matrix import Tally
from tests.faults.smtp import send
from tests.running.program import Program, eventually

CALLS = (
    "accept4", "clone3", "close", "copy_file_range", "epoll_ctl", "epoll_wait", "fcntl", "fsync",
    "fstatfs", "getdents64", "getsockname", "mkdirat", "mmap", "newfstatat", "openat", "poll",
    "pread64", "recvfrom", "renameat2", "sendto", "sync_file_range", "syncfs", "write", "writev",
)  # fmt: skip
"""What a delivery calls, but for locks and what cannot fail."""

SAFE_ONLY_WITH = frozenset({"fsync", "renameat2", "syncfs", "writev"})
"""Where a failure leaves a message that is not safe."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is sent, and what fails before, so that there is something to undo."""

    logins: tuple[str, ...]
    size: int = 100
    fresh: bool = False
    """The Maildirs are to be made."""
    trouble: Fault | None = None


SCENARIOS = {
    "one": Scenario(("alice",)),
    "new": Scenario(("alice", "bob"), fresh=True),
    "many": Scenario(("alice", "bob", "postmaster", "rest")),
    "large": Scenario(("alice", "bob"), size=1_200_000),
}
UNDOING = {
    "staged": Scenario(("alice", "bob"), trouble=Fault("renameat2", "EIO", 1)),
    "renamed": Scenario(("alice", "bob"), trouble=Fault("renameat2", "EIO", 2)),
    "shown": Scenario(("alice",), trouble=Fault("fsync", "EIO", 2)),
    "all shown": Scenario(
        ("alice", "bob", "postmaster", "rest"), trouble=Fault("syncfs", "EIO", 2)
    ),
}


class InboundLane(ServerLane):
    """Implements `matrix.Lane`."""

    def __init__(self, directory: Path, tally: Tally, lane: int) -> None:
        super().__init__(Program.inbound(directory, workers={"processes": 1}), tally, lane)

    def attempt(self, scenario: str, fault: Fault) -> int:
        play = (SCENARIOS | UNDOING)[scenario]
        worker = self.worker("receiver")
        octets = message(self.new_name(), play.size)
        if play.fresh:
            for login in play.logins:
                shutil.rmtree(self.server.maildir(login), ignore_errors=True)
        faults = (fault,) if play.trouble is None else (play.trouble, fault)
        start = self.log_size()
        with self.injection(worker, *faults) as injection:
            reply = send(self.server.port, _addresses(play), octets)
            self._await_end(injection, start)
        times = max(injection.count - (play.trouble is not None), 0)
        if times:
            self.count(fault, times, reply)
            self._judge(play, fault, octets, reply=reply)
        else:
            for login in play.logins:
                self._take(login, octets)
        self._check_next(play)
        self.check_worker("receiver", worker, fault if times else None)
        return times

    def settle(self) -> None:
        assert self.server.errors.read_text() == ""

    def renew(self) -> None:
        self.server.kill()
        shutil.rmtree(self.server.directory / "mail", ignore_errors=True)
        self.server.start()

    def _await_end(self, injection: Injection, start: int) -> None:
        """Wait until the server has done with the connection, if it comes to that."""
        eventually(
            lambda: injection.count > 0 or bool(self.logged(start, "connection")),
            what="the end of the connection",
        )

    def _judge(self, play: Scenario, fault: Fault, octets: bytes, *, reply: str) -> None:
        """See that what was replied is true, and that nothing else is there."""
        assert reply[:3] == "250" or reply[:1] == "4" or reply == "", f"replied {reply!r}"
        acknowledged = reply.startswith("250")
        if fault.call in SAFE_ONLY_WITH and fault.error != "EINTR" and not fault.kills:
            assert not acknowledged, "acknowledged, though it is not safe"
        copies = [self._take(login, octets) for login in play.logins]
        undone = not fault.kills and (play.trouble is None or fault.error == "EINTR")
        self.tally.duplicated += sum(count > 1 for count in copies)
        assert max(copies) <= 1, f"{copies} copies of one message"
        if acknowledged:
            self.tally.lost += copies.count(0)
            assert min(copies) == 1, f"acknowledged, and there are {copies} copies"
        elif undone:
            assert len(set(copies)) == 1, f"only some have it: {copies}"
            assert not reply or max(copies) == 0, f"refused, and there are {copies} copies"
        left = self.server.leftovers()
        if undone:
            assert left == [], f"left in tmp/: {left}"
        for path in left:
            path.unlink()

    def _take(self, login: str, octets: bytes) -> int:
        """Take what is in a Maildir, all of which has to be this message; how often it is there."""
        found = self.server.take(login)
        body = octets.replace(b"\r\n", b"\n")
        for each in found:
            whole = each.startswith(b"Return-Path: <sender@example.org>\n") and each.endswith(body)
            self.tally.partial += not whole
            assert whole, f"a message that is not whole, of {len(each)} octets"
        return len(found)

    def _check_next(self, play: Scenario) -> None:
        """See that the next message is delivered."""
        octets = message(self.new_name(), 100)
        reply = send(self.server.port, _addresses(play), octets)
        assert reply.startswith("250"), f"the next message: {reply!r}"
        for login in play.logins:
            assert self._take(login, octets) == 1, "the next message is not there"


def _addresses(play: Scenario) -> list[str]:
    return [
        f"{login}@catch.example" if login == "rest" else f"{login}@example.org"
        for login in play.logins
    ]
