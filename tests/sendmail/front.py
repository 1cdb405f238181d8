"""The compiled front, built with sanitizers as a rule, and somebody for it to talk to."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests import needs

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "ext" / "front.c"
DEADLINE = 60.0

_MACROS: dict[str, list[str]] = {"pfsmtp": [], "pfsmtp-sendmail": ["-DSENDMAIL"]}
_FLAGS = ["-std=c11", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
_SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(
    directory: Path, name: str = "pfsmtp-sendmail", *, python: str = "", sanitized: bool = True
) -> Path:
    """Build one of its programs, beside a `pfsmtp-python` of this tree, or a shell script."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / name
    flags = [*_FLAGS, *(_SANITIZERS if sanitized else ()), *_MACROS[name]]
    subprocess.run([needs.tool("gcc"), *flags, SOURCE, "-o", program], check=True)
    beside = directory / "pfsmtp-python"
    beside.write_text(python or f'#!/bin/sh\nexec {sys.executable} -m pfsmtp "$@"\n')
    beside.chmod(0o755)
    return program


def environment(submit: str | Path) -> dict[str, str]:
    """What it is run with. Leaks are freed by exec, and cannot be looked for under strace."""
    asan = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return {**os.environ, **asan, "PFSMTP_SUBMIT": str(submit), "PYTHONPATH": str(ROOT)}


class Counterpart:
    """Takes one request at a socket, and answers what it was told to; b"" closes only.

    One that is full reads nothing: it answers at once, or when there is a request.
    """

    def __init__(
        self, path: Path, answer: bytes, *, full: Literal["at once", "later", ""] = ""
    ) -> None:
        self.path = path
        self.packet = b""
        self.strings: list[str] = []
        self.message = b""
        self._answer = answer
        self._full = full
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(DEADLINE)
        self._thread = threading.Thread(target=self._serve)

    @contextmanager
    def listening(self) -> Iterator[Counterpart]:
        self._thread.start()
        try:
            yield self
        finally:
            # It may wait still, if nobody came.
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as last:
                last.connect(str(self.path))
            self._thread.join(DEADLINE)
            self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            if self._full:
                if self._full == "later":
                    select.select([connection], [], [], DEADLINE)
                connection.send(self._answer)
                return
            self.packet, files, _, _ = socket.recv_fds(connection, 100, 1)
            if not files:
                return
            (file,) = files
            length = int.from_bytes(self.packet[4:8], sys.byteorder)
            octets = os.pread(file, os.fstat(file).st_size, 0)
            os.close(file)
            self.strings = octets[:length].decode().split("\0")[:-1]
            self.message = octets[length:]
            if self._answer:
                connection.send(self._answer)
