"""Deliveries by processes whose PIDs recur, each with a counter that begins anew, for their names.

    python -m tests.faults.naming DIRECTORY COUNT [--without-chance]

To be run as the first process of a PID namespace (unshare(1)). In each round eight processes
deliver into one Maildir; then all that is there is compared with what they have noted, and taken
away. `--without-chance` takes the random bits out of the names, to show that
names do recur then. Prints what it found, as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pfsmtp.delivery.maildir import names
from pfsmtp.delivery.maildir.store import MaildirStore
from pfsmtp.process.shared import Numbers
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Origin, Recipient

PROCESSES = 8
EACH = 60
"""Deliveries of a process."""
HIGHEST_PID = 311
"""The kernel allows no less than 301, and begins anew at 300."""

_ALICE = Envelope(None, (Recipient(Mailbox("alice", "example.org")),))
_ORIGIN = Origin("192.0.2.1", "client.example", "ESMTP", "mx.example.org")


@dataclass(slots=True)
class Found:
    """What came of it."""

    deliveries: int = 0
    processes: int = 0
    pids: int = 0
    names_twice: int = 0
    missing: int = 0
    overwritten: int = 0
    """Files with another message than the one that was delivered under the name."""
    steps_back: int = 0
    """Names with an earlier second than the one before, of the same process."""


class NoChance:
    """In place of `random.Random`."""

    def getrandbits(self, count: int) -> int:
        return 0


def let_pids_recur() -> None:
    """Give this namespace few PIDs. Raises OSError where they are those of the whole machine."""
    release = os.uname().release.split(".")
    if (int(release[0]), int(release[1])) < (6, 14):
        raise OSError("kernel.pid_max is that of the whole machine before Linux 6.14")
    Path("/proc/sys/kernel/ns_last_pid").write_text("299")
    Path("/proc/sys/kernel/pid_max").write_text(str(HIGHEST_PID))


def deliver(mail: Path, round: int, process: int) -> None:
    """Deliver, and note each name with what is in the file."""
    store = MaildirStore(
        f"{mail}/{{login}}",
        lambda mailbox: mailbox.local_part,
        hostname="mx.example.org",
        numbers=Numbers().next,
    )
    notes = []
    for number in range(EACH):
        label = f"{round}-{process}-{number}"
        intake = store.begin(_ALICE, _ORIGIN)
        intake.write(f"Subject: {label}\n".encode())
        (path,) = intake.commit().files
        notes.append((os.path.basename(path), label))
    (mail / f"notes-{process}").write_text(json.dumps([os.getpid(), notes]))


def play_round(mail: Path, round: int) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Have all processes deliver; what each has noted, behind its pid."""
    children = []
    for process in range(PROCESSES):
        child = os.fork()
        if child == 0:
            try:
                deliver(mail, round, process)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        if status:
            raise RuntimeError(f"a process ended with {status}")
    for process in range(PROCESSES):
        yield json.loads((mail / f"notes-{process}").read_text())


def run(mail: Path, count: int) -> Found:
    """Deliver so many messages, and look what is there."""
    found = Found()
    seen: set[str] = set()
    pids: set[int] = set()
    new = mail / "alice" / "new"
    for round in range(-(-count // (PROCESSES * EACH))):
        expected: dict[str, str] = {}
        for pid, notes in play_round(mail, round):
            found.processes += 1
            pids.add(pid)
            seconds = [int(name.partition(".")[0]) for name, _ in notes]
            found.steps_back += sum(b < a for a, b in itertools.pairwise(seconds))
            for name, label in notes:
                found.deliveries += 1
                found.names_twice += name in seen
                seen.add(name)
                expected[name] = label
        for path in new.iterdir():
            label = expected.pop(path.name, "")
            found.overwritten += not path.read_text().endswith(f"\nSubject: {label}\n")
            path.unlink()
        found.missing += len(expected)
    found.pids = len(pids)
    return found


def main(directory: str, count: str, *options: str) -> None:
    let_pids_recur()
    if "--without-chance" in options:
        vars(names)["Random"] = NoChance
    print(json.dumps(asdict(run(Path(directory), int(count)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
