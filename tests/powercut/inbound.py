"""Power cuts under the inbound server, whose Maildirs are a file system of their own."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from pfsmtp import config as configuration
from pfsmtp.config import Inbound
from pfsmtp.crashtest.account import Account, of_inbound
from pfsmtp.crashtest.inbound import InboundScene
from pfsmtp.crashtest.ledger import Ledger
from pfsmtp.crashtest.maildirs import Maildirs
from pfsmtp.crashtest.message import recognise
from pfsmtp.crashtest.remote import Arrival
from tests.powercut.disk import FileSystem, RecordedDisk
from tests.powercut.ledger import RecordedLedger
from tests.powercut.neighbour import neighbour
from tests.powercut.run import Outcome, Plan, start, work
from tests.running.program import PATIENCE, Program

FIGURES = (
    *("acknowledged_recipients", "found", "in_lost_and_found", "missing", "partial", "duplicated"),
)

_DELIVERED_TO = re.compile(rb"^Delivered-To: (\S+)$", re.MULTILINE)
_SPACE = 1 << 40  # octets that are left where they are


def cut(directory: Path, filesystem: FileSystem, plan: Plan, *, sync: str) -> Outcome:
    """Run a server, and look at its Maildirs after power cuts."""
    outcome = Outcome()
    random = plan.random("cuts")
    with _scene(directory, plan, sync) as scene, RecordedDisk(directory, filesystem) as disk:
        mail = directory / "mail"
        ledger = RecordedLedger(disk.position)
        with disk.mounted(mail):
            first = disk.position()
            with neighbour(mail, plan.random("neighbour")):
                work(scene, ledger, plan)
            last = disk.position()
        cuts = disk.cuts(random, plan.cuts, answers=ledger.answers(), within=(first, last))
        for failed in cuts:
            with disk.surviving(failed, mail, random) as at_stake:
                found = _found_by_the_check(mail, plan) if filesystem.lost_and_found else []
                account = _account(
                    ledger.as_of(failed.position), directory, mail, plan=plan, elsewhere=found
                )
                outcome.add(account, at_stake=at_stake)
                if plan.restarts or failed is cuts[-1]:
                    _goes_on(scene, directory)
    return outcome


@contextmanager
def _scene(directory: Path, plan: Plan, sync: str) -> Iterator[InboundScene]:
    server = Program.inbound(directory / "given", local={"sync": sync})
    config = configuration.load(server.config)
    assert isinstance(config, Inbound)
    with closing(InboundScene(config, directory, run=plan.run, space=_SPACE)) as scene:
        yield scene


def _account(
    ledger: Ledger, directory: Path, mail: Path, *, plan: Plan, elsewhere: Sequence[Arrival]
) -> Account:
    maildirs = Maildirs(mail, _users(directory), run=plan.run, space=_SPACE)
    maildirs.finish()
    account = of_inbound(ledger, [*maildirs.arrivals, *elsewhere], maildirs.faults)
    account.figures["in_lost_and_found"] = len(elsewhere)
    return account


def _found_by_the_check(mail: Path, plan: Plan) -> list[Arrival]:
    """The whole messages that are in `lost+found`; what else is there was nobody's promise."""
    found = []
    for path in (mail / "lost+found").iterdir():
        octets = path.read_bytes() if path.is_file() else b""
        seen, recipient = recognise(plan.run, octets), _DELIVERED_TO.search(octets)
        if seen.number is not None and not seen.fault and recipient is not None:
            found.append(Arrival(seen.number, recipient[1].decode("ascii"), path.stat().st_mtime))
    return found


def _goes_on(scene: InboundScene, directory: Path) -> None:
    """See that the server starts on what is left, and takes mail for everybody."""
    program = scene.subjects[0].program
    start(program)
    try:
        with smtplib.SMTP(scene.server.host, scene.server.port, timeout=PATIENCE) as client:
            refused = client.sendmail("sender@example.net", [*_users(directory).values()], "Hello")
        assert not refused
    finally:
        program.destroy()


def _users(directory: Path) -> dict[str, str]:
    """Addresses by login."""
    lines = (directory / "users").read_text().splitlines()
    return dict(line.split(" : ", 1) for line in lines)
