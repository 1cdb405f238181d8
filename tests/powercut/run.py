"""A server at work on a recorded disk, for a while, and then killed; figures of power cuts."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from threading import Event

from pfsmtp.crashtest.account import Account
from pfsmtp.crashtest.client import Client, Post
from pfsmtp.crashtest.inbound import InboundScene
from pfsmtp.crashtest.ledger import Ledger
from pfsmtp.crashtest.message import Paper
from pfsmtp.crashtest.outbound import OutboundScene
from pfsmtp.crashtest.program import Program, State
from pfsmtp.crashtest.workload import Visit, Workload

CLIENTS = 6
_GLANCE = 0.01


@dataclass(frozen=True, slots=True)
class Plan:
    """Messages a server acknowledges before it ends, and power cuts; `seed` decides when."""

    messages: int
    cuts: int
    seed: int
    patient: bool = False
    """Whether to wait for what is deferred, and for hosts that hang up."""
    restarts: bool = False
    """Whether to start a server after every cut, and not after the last one only, where one need
    not run to see what is there."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the server before its power fails, beside the usual."""

    @property
    def run(self) -> str:
        """The mark of its messages."""
        return f"{self.random('run').getrandbits(32):08x}"

    def random(self, what: str) -> Random:
        return Random(f"{self.seed}/{what}")


@dataclass(slots=True)
class Outcome:
    """What was found after all the cuts of a run."""

    cuts: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, account: Account, *, at_stake: int) -> None:
        self.cuts += 1
        self.figures["unflushed_writes"] += at_stake
        self.figures.update(account.figures)
        self.faults += account.faults

    def lines(self, names: Iterable[str]) -> Iterator[str]:
        """For people: these figures."""
        yield f"power cuts {self.cuts}"
        for name in ("unflushed_writes", *names):
            yield f"{name.replace('_', ' ')} {self.figures[name]}"


def start(program: Program) -> None:
    """Start a server, and wait until it is ready. Raises Failed."""
    program.start()
    while program.state is not State.READY:
        program.tend()
        assert not program.failed_starts, program.last_words()
        time.sleep(_GLANCE)


def work(scene: InboundScene | OutboundScene, ledger: Ledger, plan: Plan) -> None:
    """Have clients send to the server of a scene, until it is killed in the midst of it.

    Raises Failed, when it has ended before.
    """
    (subject,) = scene.subjects
    over = Event()
    post = Post(
        plan.run, scene.server, ledger, Paper(plan.random("paper")), scene.sender, lambda: True
    )
    clients = [Client(post, visits, over) for visits in _visits(scene, plan)]
    try:
        with _environment(plan.environment):
            start(subject.program)
        for client in clients:
            client.start()
        while ledger.acknowledged < plan.messages and any(map(Client.is_alive, clients)):
            subject.program.tend()
            time.sleep(_GLANCE)
    finally:
        over.set()
        subject.program.destroy()
    for client in clients:
        client.join()
        if client.error is not None:
            raise client.error
    assert not ledger.hangs


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes that are started meanwhile have these variables."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _visits(scene: InboundScene | OutboundScene, plan: Plan) -> Iterator[Iterator[Visit]]:
    for number in range(CLIENTS):
        yield Workload(
            str(plan.seed),
            number,
            clients=CLIENTS,
            pick=scene.pick,
            largest=scene.largest,
        ).visits()
