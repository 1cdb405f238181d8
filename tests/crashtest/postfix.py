"""Postfix's smtp-sink as the host that a crash test relays to: a remote that is not ours.

It writes each message into a file, with the envelope in fields before it, and removes the file if
the message does not come to its end. What is whole is read, counted and removed all the time.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random, SystemRandom

from pfsmtp.crashtest.message import recognise
from pfsmtp.crashtest.program import Subject
from pfsmtp.crashtest.remote import Arrival, Report, sender
from pfsmtp.crashtest.site import LOOPBACK, free_port
from tests import needs
from tests.running.program import NOBODY, eventually

_RECIPIENT = re.compile(rb"^X-Rcpt-Args: <([^>]*)>", re.MULTILINE)
_REST = 0.2  # seconds between two rounds


class SmtpSink:
    """Implements `pfsmtp.crashtest.remote.Remote`."""

    subjects: Sequence[Subject] = ()

    def __init__(self, directory: Path, run: str) -> None:
        self.arrivals: list[Arrival] = []
        self.reports: list[Report] = []
        self.faults: list[str] = []
        self.port = free_port(SystemRandom())
        self._directory = directory
        self._run = run
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read_on)
        directory.mkdir()
        self._process = subprocess.Popen(self._command())
        eventually(self._greets)

    def pick(self, random: Random) -> str:
        return f"take.{random.randrange(10)}@[{LOOPBACK}]"

    def takes(self, recipient: str) -> bool:
        return True

    def sender(self, number: int) -> str:
        return sender(number, f"[{LOOPBACK}]")

    def begin(self) -> None:
        self._reader.start()

    def finish(self) -> list[str]:
        self.close()
        self._read()
        return [f"smtp-sink got a message in part: {path}" for path in self._directory.iterdir()]

    def close(self) -> None:
        self._stop.set()
        if self._reader.is_alive():
            self._reader.join()
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()

    def _command(self) -> list[str]:
        program, address = needs.tool("smtp-sink", package="postfix"), f"{LOOPBACK}:{self.port}"
        if os.geteuid() != 0:
            return [program, "-d", str(self._directory / "m."), address, "1000"]
        # It does not run as root.
        os.chown(self._directory, pwd.getpwnam(NOBODY).pw_uid, -1)
        return [program, "-u", NOBODY, "-R", str(self._directory), "-d", "m.", address, "1000"]

    def _greets(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as sock:
                return sock.recv(3) == b"220"
        except OSError:
            return False

    def _read_on(self) -> None:
        while not self._stop.wait(_REST):
            self._read()

    def _read(self) -> None:
        """Take what is whole; the others are being written."""
        for path in self._directory.iterdir():
            try:
                octets, at = path.read_bytes(), path.stat().st_mtime
            except FileNotFoundError:
                continue
            # It puts an empty line behind each message.
            seen = recognise(self._run, octets.removesuffix(b"\n"))
            if seen.number is not None and not seen.fault:
                self.arrivals += [
                    Arrival(seen.number, recipient.decode(), at)
                    for recipient in _RECIPIENT.findall(seen.fields)
                ]
                path.unlink()
