"""A queue that an operator looks after: what is put in it, and what the command says."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from pfsmtp import cli
from pfsmtp.mailqueue.guard import Guard
from pfsmtp.mailqueue.lease import UnitLease
from pfsmtp.mailqueue.shard import UnitShard
from pfsmtp.mailqueue.spool import Spool
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status
from tests.running.program import ROOT, write_toml

MESSAGE = b"Subject: hello\r\n\r\nIt works.\r\n"
FULL = Outcome(
    Kind.DEFERRED,
    Status(4, 2, 2),
    "452 4.2.2 The mailbox is full",
    host="mx.example.org",
    address="192.0.2.1",
    command="RCPT",
    tls="TLSv1.3 TLS_AES_256_GCM_SHA384, not verified",
)
REFUSED = Outcome(Kind.DEFERRED, Status(4, 4, 1), "mx.example.org could not be reached")
DELIVERED = Outcome(Kind.DELIVERED, Status(2, 0, 0), "250 Ok", "mx.example.org", command="DATA")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the command has said."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def object(self) -> dict[str, Any]:
        (found,) = self.objects
        return found


class Clock:
    """Unix time that a test can set back, to have put messages long ago."""

    ago = 0.0

    def __call__(self) -> float:
        return time.time() - self.ago


class Silence:
    def event(self, name: str, /, **fields: object) -> None:
        """Nobody reads it."""


class Post:
    """The queue of one configuration, as its server has it, and the operator's command."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = directory / "outbound.toml"
        self.directory = directory / "queue"
        self._capsys = capsys
        self._numbers = itertools.count()
        self._clock = Clock()
        self._open: list[Spool] = []
        self._shards: list[UnitShard] = []
        self.configure()

    def configure(self, **more: Any) -> None:
        """Write the configuration, with further sections."""
        sections = {
            "role": "outbound",
            "hostname": "out.example.org",
            "listen": {"smtp": ["127.0.0.1:2526"]},
            "queue": {"directory": "queue"},
        }
        write_toml(self.config, sections | more)

    def __call__(self, *arguments: str) -> Answer:
        """Run `queue …`."""
        self._capsys.readouterr()
        try:
            status = cli.main(["-c", str(self.config), "queue", *arguments])
        except SystemExit as exit:
            status = int(exit.code or 0)
        said = self._capsys.readouterr()
        return Answer(status, said.out, said.err)

    def run(self, *arguments: str, prefix: Sequence[str] = ()) -> CompletedProcess[bytes]:
        """Run it as a user does; `prefix` is a command to run it under."""
        return subprocess.run(
            [*prefix, sys.executable, "-m", "pfsmtp", "-c", self.config, "queue", *arguments],
            capture_output=True,
            env=environment(),
            timeout=60,
            check=False,
        )

    def put(
        self,
        *recipients: str | Recipient,
        sender: str = "sender@example.net",
        ago: float = 0.0,
        message: bytes = MESSAGE,
        **parameters: Any,
    ) -> str:
        """Put a message; returns its ID."""
        envelope = Envelope(
            _mailbox(sender) if sender else None,
            tuple(
                each if isinstance(each, Recipient) else Recipient(_mailbox(each))
                for each in recipients
            ),
            **parameters,
        )
        self._clock.ago = ago
        try:
            intake = self.spool().begin(envelope)
            intake.write(message)
            return intake.commit().id
        finally:
            self._clock.ago = 0.0

    def claim(self, id: str, domain: str = "example.org") -> UnitLease:
        """Begin an attempt, which goes on until the test is over."""
        shard = self.spool().shard(0)
        self._shards.append(shard)
        while (unit := shard.due(time.time())) is not None:
            if unit.domain == domain and f"{unit.id:016X}" == id:
                lease = shard.claim(unit)
                assert lease is not None
                return lease
        raise AssertionError(f"{id} is not due for {domain}")

    def attempt(
        self,
        id: str,
        *outcomes: Outcome,
        domain: str = "example.org",
        again: float = 3600.0,
        reason: str = "",
        owed: Collection[int] = (),
    ) -> None:
        """Attempt a message to one destination, with these outcomes."""
        lease = self.claim(id, domain)
        if outcomes:
            lease.record(dict(enumerate(outcomes)), owed=owed)
        if not lease.ended:
            lease.release(time.time() + again, reason=reason)

    def spool(self) -> Spool:
        spool = Spool(
            self.directory,
            deliverers=1,
            log=Silence(),
            number=self._numbers.__next__,
            clock=self._clock,
        )
        self._open.append(spool)
        return spool

    def close(self) -> None:
        for shard in self._shards:
            shard.close()
        for spool in self._open:
            spool.close()


def environment() -> dict[str, str]:
    """What the command is run with: nothing that makes Python write at once."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}


@contextmanager
def server_of(directory: Path) -> Iterator[None]:
    """A server's master, as far as its lock goes."""
    ready, end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(end[1])
            guard = Guard(directory, now=0.0)
            os.write(ready[1], b"x")
            os.read(end[0], 1)
            guard.close()
        finally:
            os._exit(0)
    try:
        assert os.read(ready[0], 1)
        yield
    finally:
        os.close(end[1])
        os.waitpid(child, 0)
        for fd in (*ready, end[0]):
            os.close(fd)


def _mailbox(address: str) -> Mailbox:
    return Mailbox(*address.rsplit("@", 1))


@pytest.fixture
def queue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Post]:
    monkeypatch.setenv("COLUMNS", "100")
    post = Post(tmp_path, capsys)
    yield post
    post.close()
