"""The run: start, send while processes are killed, let things settle, stop, account.

A `Scene` knows what is particular to inbound or outbound. All killing and starting is done in one
thread, which also shows how it goes; clients, and whoever looks at what arrives, have their own.

That the server does what it must not (`Failed`) ends the run early, and is a fault like others.
Whatever happens, no process of ours is left.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from pfsmtp.crashtest.account import Account
from pfsmtp.crashtest.client import Client, Post, Server
from pfsmtp.crashtest.ledger import Ledger
from pfsmtp.crashtest.message import Paper
from pfsmtp.crashtest.program import Failed, State, Subject
from pfsmtp.crashtest.schedule import Kill, Target, kills
from pfsmtp.crashtest.site import CannotRun
from pfsmtp.crashtest.workload import Workload

_GLANCE = 0.01  # seconds between two looks at everything
_SPARE = 15.0  # seconds from the end of a drain to the end of a server


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for. Times are in seconds."""

    seconds: float
    every: float  # between two kills, on average
    clients: int
    seed: int

    @property
    def run(self) -> str:
        """The mark of this run, which the seed decides as all else."""
        return f"{Random(self.seed).getrandbits(32):08x}"


@dataclass(slots=True)
class Progress:
    """How it goes, for whoever watches."""

    began: float
    ends: float
    phase: str = "starting"
    kills: Counter[Target] = field(default_factory=Counter)


class Scene(Protocol):
    """What is particular to inbound or outbound."""

    @property
    def subjects(self) -> Sequence[Subject]:
        """The servers, in the order to start them."""
        ...

    @property
    def server(self) -> Server:
        """Where the clients go."""
        ...

    @property
    def largest(self) -> int:
        """Octets of a body, at most."""
        ...

    @property
    def arrived(self) -> int:
        """Copies found so far."""
        ...

    @property
    def faults(self) -> int:
        """Faults found so far."""
        ...

    def pick(self, random: Random) -> str:
        """Choose a recipient."""
        ...

    def sender(self, number: int) -> str:
        """The reverse-path of a message."""
        ...

    def has_room(self) -> bool:
        """Whether the clients may send more."""
        ...

    def begin(self, ledger: Ledger) -> None:
        """Begin to look at what arrives."""
        ...

    def killed(self, subject: Subject, target: Target, when: float) -> None:
        """Take note of a kill; `when` is in Unix seconds."""
        ...

    def settled(self) -> bool:
        """Whether all has arrived that will; asked about once a second."""
        ...

    def account(self, ledger: Ledger) -> Account:
        """Account for everything; the servers have stopped."""
        ...


class Trial:
    """One run of a scene."""

    def __init__(
        self,
        scene: Scene,
        plan: Plan,
        *,
        interrupted: threading.Event,
        show: Callable[[Progress, Ledger, Scene], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interrupted` ends it early; `show` is called many times a second."""
        self.ledger = Ledger()
        self.progress = Progress(clock(), clock() + plan.seconds)
        self._scene = scene
        self._plan = plan
        self._interrupted = interrupted
        self._show = show
        self._clock = clock
        self._stop_clients = threading.Event()
        self._clients: list[Client] = []
        self._faults: list[str] = []

    def run(self) -> Account:
        """Go through with it. Raises CannotRun when the server does not start at all."""
        try:
            self._start()
            try:
                self._send_and_kill()
                self._settle()
            except Failed as failure:
                self._faults.append(str(failure))
            self._stop()
            account = self._scene.account(self.ledger)
        finally:
            self._stop_clients.set()
            for subject in self._scene.subjects:
                subject.program.destroy()
        return self._complete(account)

    def _start(self) -> None:
        for subject in self._scene.subjects:
            program = subject.program
            program.start()
            while not _is_ready(subject):
                self._look()
                if self._interrupted.is_set():
                    raise CannotRun("it was ended before it had begun")
                if program.failed_starts:
                    raise CannotRun(
                        f"the {subject.name} server does not start: {program.last_words()}"
                    )
        self._scene.begin(self.ledger)
        plan = self._plan
        post = Post(
            plan.run,
            self._scene.server,
            self.ledger,
            Paper(Random(plan.seed)),
            self._scene.sender,
            self._scene.has_room,
        )
        for number in range(plan.clients):
            workload = Workload(
                str(plan.seed),
                number,
                clients=plan.clients,
                pick=self._scene.pick,
                largest=self._scene.largest,
            )
            client = Client(post, workload.visits(), self._stop_clients)
            client.start()
            self._clients.append(client)

    def _send_and_kill(self) -> None:
        now = self._clock()
        progress = self.progress
        progress.began, progress.ends, progress.phase = now, now + self._plan.seconds, "killing"
        targets = sorted(
            {target for subject in self._scene.subjects for target in subject.targets},
            key=lambda target: target.value,
        )
        random = Random(f"{self._plan.seed}/kills")
        for kill in kills(random, targets, mean=self._plan.every):
            subjects = [each for each in self._scene.subjects if kill.target in each.targets]
            subject = subjects[int(kill.program * len(subjects))]
            due = self._clock() + kill.after
            while self._clock() < due or not (kill.hasty or _is_ready(subject)):
                if self._clock() >= progress.ends or self._interrupted.is_set():
                    return
                self._look()
            self._kill(subject, kill)

    def _kill(self, subject: Subject, kill: Kill) -> None:
        when = time.time()
        if subject.program.kill(kill.target, kill.which):
            self.progress.kills[kill.target] += 1
            self._scene.killed(subject, kill.target, when)

    def _settle(self) -> None:
        """Let the clients finish, and the mail arrive."""
        self.progress.phase = "settling"
        self._stop_clients.set()
        while any(client.is_alive() for client in self._clients) or not self._all_ready():
            self._look()
        while not self._interrupted.is_set() and not self._scene.settled():
            self._look()

    def _stop(self) -> None:
        self.progress.phase = "stopping"
        self._stop_clients.set()
        # Whoever relays before those who are relayed to, so that nothing is broken off.
        for subject in reversed(self._scene.subjects):
            wrong = subject.program.stop(within=subject.drain + _SPARE)
            self._faults += [f"{subject.name}: {each}" for each in wrong]
        for client in self._clients:
            client.join()
            if client.error is not None:
                raise client.error

    def _all_ready(self) -> bool:
        return all(map(_is_ready, self._scene.subjects))

    def _look(self) -> None:
        """Tend the programs, show how it goes, and rest a moment. Raises Failed."""
        for subject in self._scene.subjects:
            subject.program.tend()
        self._show(self.progress, self.ledger, self._scene)
        time.sleep(_GLANCE)

    def _complete(self, account: Account) -> Account:
        """Add what is the same for all scenes."""
        programs = [subject.program for subject in self._scene.subjects]
        killed = self.progress.kills
        figures = {
            "kills": sum(killed.values()),
            **{f"kills_of_{target.value}": killed[target] for target in Target if killed[target]},
            "starts": sum(program.starts for program in programs),
            **account.figures,
            "hangs": self.ledger.hangs,
        }
        faults = [*self._faults, *account.faults]
        if self.ledger.hangs:
            faults.append(f"{self.ledger.hangs} times a client got no answer")
        return Account(figures, faults)


def _is_ready(subject: Subject) -> bool:
    return subject.program.state is State.READY
