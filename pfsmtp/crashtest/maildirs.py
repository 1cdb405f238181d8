"""What arrives in Maildirs, looked at all the time: a thread goes round their `new/`.

Each file is read the moment it is seen; one that is no whole message then is a fault, whatever
becomes of it later, since a file in `new/` is whole from its first instant. At the end all are
read once more: what has gone or changed meanwhile is a fault as well.

So that a long run does not fill the disk, the oldest files are read once more and removed when all
together are larger than `space` octets, as a reader of mail would do.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pfsmtp.crashtest.message import recognise
from pfsmtp.crashtest.remote import Arrival, Report, number_of, read_report

REPORTS = "crashtest"
"""The login to which reports go: the local-part of the senders, up to the tag."""

_REST = 0.01  # seconds between two rounds, at least
_REMOVED = 100  # files in a round, at most
_NAME = re.compile(r"([0-9]+)\.M([0-9]+)P")
_DELIVERED_TO = re.compile(rb"^Delivered-To: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _File:
    login: str
    name: str
    size: int


class Maildirs:
    """The Maildirs of one server; all messages in them are of one run."""

    def __init__(self, base: Path, logins: Iterable[str], *, run: str, space: int) -> None:
        self.arrivals: list[Arrival] = []
        self.reports: list[Report] = []
        self.faults: list[str] = []
        self._base = base
        self._known: dict[str, set[str]] = {login: set() for login in logins}
        self._run = run
        self._space = space
        self._kept: dict[_File, None] = {}  # the oldest first
        self._octets = 0
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Look once more at all there is; the server has stopped."""
        self.close()
        self._look()
        for file in self._kept:
            self._read_again(file)

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._error is not None:
            raise self._error

    def left_in_tmp(self) -> int:
        """How many files deliveries that were killed have left behind."""
        return sum(len(self._names(login, "tmp")) for login in self._known)

    def _watch(self) -> None:
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                self._look()
                self._make_room()
                self._stop.wait(max(_REST, 2 * (time.monotonic() - began)))
        except BaseException as error:
            # A bug of ours, for whoever closes this.
            self._error = error

    def _look(self) -> None:
        """Read what is new, everywhere."""
        for login, known in self._known.items():
            for name in self._names(login, "new"):
                if name not in known:
                    known.add(name)
                    self._read(login, name)

    def _names(self, login: str, directory: str) -> Sequence[str]:
        with suppress(FileNotFoundError):
            return os.listdir(self._base / login / directory)
        return ()

    def _read(self, login: str, name: str) -> None:
        try:
            octets = self._path(login, name).read_bytes()
        except FileNotFoundError:
            self.faults.append(f"{login}/new/{name} was there, and gone before it could be read")
            return
        fault = self._take(login, octets, at=_time_in(name))
        if fault:
            self.faults.append(f"{login}/new/{name}: {fault}")
            return
        self._kept[_File(login, name, len(octets))] = None
        self._octets += len(octets)

    def _take(self, login: str, octets: bytes, *, at: float) -> str:
        """Note a message; return what is wrong with it instead."""
        found = _DELIVERED_TO.search(octets[:4096])
        if not octets.startswith(b"Return-Path: <") or found is None:
            return "empty" if not octets else "it does not begin with our own fields"
        recipient = found[1].decode("ascii", "replace")
        if recipient.partition("@")[0].partition("+")[0] != login:
            return f"it is for {recipient}"
        if login == REPORTS:
            return self._take_report(recipient, octets, at=at)
        seen = recognise(self._run, octets)
        if seen.fault or seen.number is None:
            return seen.fault
        self.arrivals.append(Arrival(seen.number, recipient, at))
        return ""

    def _take_report(self, recipient: str, octets: bytes, *, at: float) -> str:
        number = number_of(recipient)
        report = None if number is None else read_report(octets, number, at=at)
        if report is None:
            return "it is no whole report"
        self.reports.append(report)
        return ""

    def _make_room(self) -> None:
        """Remove the oldest when there is more than may be; some only, so as to go on looking."""
        if self._octets <= self._space:
            return
        for file in list(islice(self._kept, _REMOVED)):
            if self._octets <= self._space:
                break
            if self._read_again(file):
                self._path(file.login, file.name).unlink()
            del self._kept[file]
            self._octets -= file.size

    def _read_again(self, file: _File) -> bool:
        """Whether a file that was whole still is."""
        try:
            octets = self._path(file.login, file.name).read_bytes()
        except FileNotFoundError:
            self.faults.append(f"{file.login}/new/{file.name} was whole, and is gone")
            return False
        if len(octets) != file.size or (
            file.login != REPORTS and recognise(self._run, octets).fault
        ):
            self.faults.append(f"{file.login}/new/{file.name} was whole, and is no more")
            return False
        return True

    def _path(self, login: str, name: str) -> Path:
        return self._base / login / "new" / name


def _time_in(name: str) -> float:
    """When a file was named, in Unix seconds."""
    found = _NAME.match(name)
    return float(f"{found[1]}.{int(found[2]):06}") if found else time.time()
