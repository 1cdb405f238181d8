"""Outbound: clients send to the server, which relays to a remote host.

The remote is the test's own (`sink`), or the inbound server of another configuration, whose
processes are killed as well (`RelayedMaildirs`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from random import Random, SystemRandom

from pfsmtp.config import Outbound
from pfsmtp.crashtest import journal, settings
from pfsmtp.crashtest.account import Account, Key, OutboundAccounts, Waiting
from pfsmtp.crashtest.inbound import (
    InboundServer,
    clients_server,
    largest_body,
    make_program,
)
from pfsmtp.crashtest.ledger import Answer, Ledger
from pfsmtp.crashtest.program import Subject
from pfsmtp.crashtest.remote import Arrival, Remote, Report, number_of, read_report, sender
from pfsmtp.crashtest.schedule import Target
from pfsmtp.crashtest.site import LOOPBACK, free_port
from pfsmtp.mailqueue.entry import Selection, View
from pfsmtp.mailqueue.window import Window

_MOST_WAITING = 2000
_LOOK = 1.0  # seconds between two looks at the queue
_PATIENCE = 120.0  # seconds for the queue to become empty, once nothing is killed


class RelayedMaildirs:
    """Implements `remote.Remote` with an inbound server."""

    def __init__(self, server: InboundServer) -> None:
        self.port = server.port
        self.subjects = (server.subject,)
        self._server = server
        self._maildirs = server.maildirs
        self._names = tuple(server.users)

    @property
    def arrivals(self) -> Sequence[Arrival]:
        return self._maildirs.arrivals

    @property
    def reports(self) -> Sequence[Report]:
        return self._maildirs.reports

    @property
    def faults(self) -> Sequence[str]:
        return self._maildirs.faults

    def pick(self, random: Random) -> str:
        return f"{random.choice(self._names)}@[{random.choice(self._server.addresses)}]"

    def takes(self, recipient: str) -> bool:
        return True

    def sender(self, number: int) -> str:
        return sender(number, f"[{self._server.addresses[0]}]")

    def begin(self) -> None:
        self._maildirs.start()

    def finish(self) -> list[str]:
        self._maildirs.finish()
        return self._server.journal().faults

    def close(self) -> None:
        self._server.close()


class OutboundScene:
    """Implements `trial.Scene`."""

    def __init__(self, config: Outbound, site: Path, remote: Remote) -> None:
        """Raises CannotRun, OSError."""
        ports = SystemRandom()
        port, tls_port = free_port(ports), free_port(ports)
        changed = settings.for_outbound(
            config, site, LOOPBACK, port=port, tls_port=tls_port, relay_port=remote.port
        )
        subject = Subject(
            "outbound",
            make_program(changed, site),
            (Target.RECEIVER, Target.DELIVERER, Target.MASTER, Target.ALL),
            changed.workers.drain,
        )
        self.subjects = (*remote.subjects, subject)
        self.server = clients_server(changed, port, tls_port)
        self.largest = largest_body(config)
        self._subject = subject
        self._queue = changed.queue.directory
        self._log = site / "server.log"
        self._remote = remote
        self._ledger: Ledger | None = None
        self._hopeless = 0  # recipients whose mail stays in the queue
        self._deaths: list[float] = []
        self._next_look = 0.0
        self._give_up = 0.0
        self._late: list[str] = []

    @property
    def arrived(self) -> int:
        return len(self._remote.arrivals) + len(self._remote.reports)

    @property
    def faults(self) -> int:
        return len(self._remote.faults)

    def pick(self, random: Random) -> str:
        recipient = self._remote.pick(random)
        self._hopeless += not self._remote.takes(recipient)
        return recipient

    def sender(self, number: int) -> str:
        return self._remote.sender(number)

    def has_room(self) -> bool:
        promised = self._ledger.promised if self._ledger is not None else 0
        return promised - self._hopeless - self.arrived < _MOST_WAITING

    def begin(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._remote.begin()

    def killed(self, subject: Subject, target: Target, when: float) -> None:
        if target is Target.MASTER:
            # Its workers finish what they have begun; what takes too long is cut off.
            self._deaths.append(when + subject.drain)
        elif target is not Target.RECEIVER or subject is not self._subject:
            # A receiver of ours delivers nothing; one behind the remote takes what we send.
            self._deaths.append(when)

    def settled(self) -> bool:
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _LOOK
        self._give_up = self._give_up or now + _PATIENCE
        late = self._late_ones(self._waiting())
        if late and now > self._give_up:
            self._late = [
                f"message {number} for {recipient} was in the queue still after {_PATIENCE:g} s"
                " without kills, though nothing was in its way"
                for number, recipient in sorted(late)
            ]
        return not late or bool(self._late)

    def account(self, ledger: Ledger) -> Account:
        wrong = self._remote.finish()
        accounts = OutboundAccounts(
            ledger,
            self._remote.arrivals,
            self._remote.reports,
            waiting=self._waiting(),
            deaths=self._deaths,
        )
        log = journal.read(self._log, accounts.suspects())
        account = accounts.close(log.delivered, self._remote.faults)
        account.faults += [*self._late, *wrong, *log.faults]
        return account

    def close(self) -> None:
        self._remote.close()
        self._subject.program.close()

    def _late_ones(self, waiting: Waiting) -> set[Key]:
        """What should have left the queue.

        What was not acknowledged has time: whoever had put it was killed before the deliverer was
        told, and it is found when the queue is read through, which is every few minutes.
        """
        late = {key for key in waiting.pending if self._remote.takes(key[1])} | waiting.failed
        return {key for key in late if self._is_acknowledged(key[0])}

    def _is_acknowledged(self, number: int) -> bool:
        sent = self._ledger.get(number) if self._ledger is not None else None
        return sent is not None and sent.answer is Answer.ACKNOWLEDGED

    def _waiting(self) -> Waiting:
        """What is in the queue now."""
        pending: set[Key] = set()
        failed: set[Key] = set()
        with suppress(FileNotFoundError), closing(Window(self._queue)) as window:
            for view in window.views(Selection()):
                if view.entry.envelope.reverse_path is None:
                    failed |= _reported(window, view)
                else:
                    pending |= _pending(view)
                    failed |= _owed(view)
        return Waiting(frozenset(pending), frozenset(failed))


def _pending(view: View) -> set[Key]:
    number = number_of(str(view.entry.envelope.reverse_path))
    return {
        (-1 if number is None else number, str(each.recipient.mailbox))
        for each in view.entry.addressees
        if each.pending
    }


def _owed(view: View) -> set[Key]:
    """Those of whose failure the sender is still to be told."""
    number = number_of(str(view.entry.envelope.reverse_path))
    return {
        (-1 if number is None else number, str(each.recipient.mailbox))
        for each in view.entry.addressees
        if each.owed
    }


def _reported(window: Window, view: View) -> set[Key]:
    """Whom a report in the queue is about."""
    number = number_of(str(view.entry.envelope.recipients[0].mailbox))
    message = window.message(view.entry.id)
    if message is None or number is None:
        return set()
    with closing(message):
        report = read_report(b"".join(message.pieces()), number, at=0.0)
    return set() if report is None else {(number, each) for each in report.recipients}
