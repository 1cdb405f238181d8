"""Power cuts under the outbound server, whose queue is a file system of its own.

The remote host is on another machine, so to say: it remembers what it has taken before the power
failed. What was relayed after that moment has not happened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from random import Random, SystemRandom

from pfsmtp import config as configuration
from pfsmtp.config import Outbound
from pfsmtp.crashtest.account import Account
from pfsmtp.crashtest.ledger import Ledger
from pfsmtp.crashtest.outbound import OutboundScene
from pfsmtp.crashtest.remote import Arrival, Remote, Report
from pfsmtp.crashtest.schedule import Target
from pfsmtp.crashtest.sink import ADDRESSES, Sink, Treatment
from pfsmtp.crashtest.site import free_port
from tests.powercut.disk import FileSystem, RecordedDisk
from tests.powercut.ledger import RecordedLedger
from tests.powercut.neighbour import neighbour
from tests.powercut.record import Cut
from tests.powercut.run import Outcome, Plan, start, work
from tests.running.program import Program

FIGURES = (
    *("acknowledged_recipients", "delivered", "bounced", "queued", "missing", "partial"),
    *("duplicated", "duplicated_after_a_kill", "set_aside"),
)

_TORN = "the queue was damaged"
_PRECISION = 0.001  # seconds: the log's times are not later than that
_SPARE = 30.0  # seconds
_GLANCE = 0.01
_TAKEN = 0.95


class Brisk(Sink):
    """A host that never lets anybody wait, so that all is soon settled."""

    def pick(self, random: Random) -> str:
        treatment = Treatment.TAKE if random.random() < _TAKEN else Treatment.REFUSE
        return f"{treatment.value}.0@[{random.choice(ADDRESSES)}]"


class Memory:
    """Implements `remote.Remote`: a host that knows what it has taken before a power cut."""

    subjects = ()

    def __init__(self, sink: Sink, before: Sink, *, until: float) -> None:
        """Go on at `sink` with what `before` had taken by then, in Unix seconds."""
        self.port = sink.port
        self._sink = sink
        self._arrivals = [each for each in before.arrivals if each.at <= until]
        self._reports = [each for each in before.reports if each.at <= until]

    @property
    def arrivals(self) -> Sequence[Arrival]:
        return [*self._arrivals, *self._sink.arrivals]

    @property
    def reports(self) -> Sequence[Report]:
        return [*self._reports, *self._sink.reports]

    @property
    def faults(self) -> Sequence[str]:
        return self._sink.faults

    def pick(self, random: Random) -> str:
        return self._sink.pick(random)

    def takes(self, recipient: str) -> bool:
        return self._sink.takes(recipient)

    def sender(self, number: int) -> str:
        return self._sink.sender(number)

    def begin(self) -> None:
        """The sink listens."""

    def finish(self) -> list[str]:
        return self._sink.finish()

    def close(self) -> None:
        self._sink.close()


def cut(directory: Path, filesystem: FileSystem, plan: Plan) -> Outcome:
    """Run a server, and let it go on with what power cuts have left of its queue."""
    outcome = Outcome()
    random = plan.random("cuts")
    before = directory / "before"
    with RecordedDisk(directory, filesystem) as disk, closing(_sink(plan)) as sink:
        ledger = RecordedLedger(disk.position)
        with disk.mounted(before / "queue"), _scene(directory, before, sink) as scene:
            first = disk.position()
            with neighbour(before / "queue", plan.random("neighbour")):
                work(scene, ledger, plan)
            last = disk.position()
        sink.close()
        assert not sink.faults
        cuts = disk.cuts(random, plan.cuts, answers=ledger.answers(), within=(first, last))
        for number, failed in enumerate(cuts):
            after = directory / f"after-{number}"
            memory = Memory(_sink(plan), sink, until=failed.at)
            with disk.surviving(failed, after / "queue", random) as at_stake:
                _copy_log(before / "server.log", after / "server.log", until=failed.at)
                with _scene(directory, after, memory) as scene:
                    account = _go_on(scene, ledger.as_of(failed.position), failed)
            outcome.add(account, at_stake=at_stake)
    return outcome


@contextmanager
def _scene(directory: Path, site: Path, remote: Remote) -> Iterator[OutboundScene]:
    config = configuration.load(Program.outbound(directory / "given").config)
    assert isinstance(config, Outbound)
    with closing(OutboundScene(config, site, remote)) as scene:
        yield scene


def _sink(plan: Plan) -> Sink:
    make = Sink if plan.patient else Brisk
    return make(free_port(SystemRandom(), ADDRESSES), plan.run, None)


def _copy_log(source: Path, target: Path, *, until: float) -> None:
    """What the server had surely logged by then."""
    with source.open("rb") as file:
        lines = [line for line in file if _time(line) + _PRECISION <= until]
    target.write_bytes(b"".join(lines))


def _time(line: bytes) -> float:
    try:
        return datetime.fromisoformat(json.loads(line)["ts"]).timestamp()
    except ValueError:
        return float("inf")  # it was being written


def _go_on(scene: OutboundScene, ledger: Ledger, failed: Cut) -> Account:
    """Start the server on what is left, and account for everything once it has delivered that."""
    (subject,) = scene.subjects
    program = subject.program
    scene.begin(ledger)
    scene.killed(subject, Target.ALL, failed.at)
    start(program)
    try:
        while not scene.settled():
            program.tend()
            time.sleep(_GLANCE)
        wrong = program.stop(within=subject.drain + _SPARE)
    finally:
        program.destroy()
    account = scene.account(ledger)
    # What was being put may be torn. That nothing was acknowledged of it, the figures say.
    torn = [fault for fault in account.faults if fault.startswith(_TORN)]
    account.faults = [*wrong, *(fault for fault in account.faults if fault not in torn)]
    account.figures["set_aside"] = len(torn)
    return account
