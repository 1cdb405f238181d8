"""What a message costs in instructions, counted by valgrind, which runs each of them itself.

So no counters of the processor are needed, and neither other programs nor the machine's speed make
a difference; the same count comes again within half a percent. It is that of all in the workers:
the interpreter, the compiled parts, the C library. What the start takes is counted, too, and taken
off again: it is what is counted when a few messages are sent.

An interpreter has a count of its own, so those are recorded that were at hand; with any other, the
tests are skipped. `test_counts.py` says when and how to record:

    RECORD_COUNTS=1 pytest tests/test_counts.py tests/test_instructions.py
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests import needs
from tests.running.program import PATIENCE, ROOT, Program, eventually
from tests.test_counts import (
    MESSAGES,
    RECORDING,
    WARM_UP,
    Remote,
    outbound_program,
    send_inbound,
    send_outbound,
)

RECORDED = Path(__file__).with_name("instructions.json")
INTERPRETER = (
    f"{platform.machine()}, Python {platform.python_version()} {' '.join(platform.python_build())}"
)
ROOM = 0.04  # of what was recorded: other processors take other ways through the C library

pytestmark = pytest.mark.timeout(600)  # a start takes valgrind some seconds on an idle machine


class Counted:
    """A server under valgrind, without a master."""

    def __init__(self, server: Program, workers: int) -> None:
        """`workers` is how many kinds it has."""
        self._workers = workers
        command = [needs.tool("valgrind"), "--tool=cachegrind", "--cache-sim=no"]
        command += ["--cachegrind-out-file=/dev/null", sys.executable, "-m", "tests.counted"]
        self._said = server.directory / "valgrind"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*command, str(server.config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                # What is hashed, and so how dicts are laid out, is chance otherwise.
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
            )

    def count(self, action: Callable[[], None]) -> int:
        """Instructions of new workers, from the start of the program, in which this is done."""
        self._write(b"x")
        pids = [self._read_line() for _ in range(self._workers)]
        action()
        self._write(b"x" * self._workers)
        return sum(map(self._counted, pids))

    def _write(self, octets: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(octets)
        self._process.stdin.flush()

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        assert line, self._said.read_text()
        return line.strip()

    def _counted(self, pid: str) -> int:
        """What valgrind says when this process has ended."""
        pattern = re.compile(rf"^=={pid}== I +refs: +([\d,]+)$", re.MULTILINE)
        eventually(lambda: bool(pattern.search(self._said.read_text())), within=PATIENCE)
        (counted,) = pattern.findall(self._said.read_text())
        return int(counted.replace(",", ""))

    def stop(self) -> None:
        self._process.communicate()


@contextmanager
def counted(server: Program, *, workers: int) -> Iterator[Counted]:
    subject = Counted(server, workers)
    try:
        yield subject
    finally:
        subject.stop()


def each(subject: Counted, send: Callable[[int], None]) -> int:
    """Instructions of one more message."""
    few, many = (subject.count(partial(send, count)) for count in (WARM_UP, WARM_UP + MESSAGES))
    return (many - few) // MESSAGES


def compare(title: str, instructions: int) -> None:
    """Hold what a message takes to what is recorded for it."""
    known: dict[str, dict[str, int]] = json.loads(RECORDED.read_text())
    if RECORDING:
        known[INTERPRETER] = known.get(INTERPRETER, {}) | {title: instructions}
        RECORDED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    expected = known.get(INTERPRETER, {}).get(title)
    if expected is None:
        pytest.skip(f"{instructions} instructions; nothing is recorded for {INTERPRETER}")
    assert instructions <= expected * (1 + ROOM)


def test_inbound_message_takes_the_instructions_that_are_recorded(tmp_path: Path) -> None:
    server = Program.inbound(tmp_path, workers={"processes": 1})
    with counted(server, workers=1) as subject:
        one, many = (
            each(subject, partial(send_inbound, server.port, reuse=reuse))
            for reuse in (True, False)
        )
    compare("inbound, one connection", one)
    compare("inbound, a connection each", many)


def test_outbound_message_takes_the_instructions_that_are_recorded(tmp_path: Path) -> None:
    with Remote() as remote:
        server = outbound_program(tmp_path, remote)
        with counted(server, workers=2) as subject:
            instructions = each(subject, partial(send_outbound, server, remote))
    compare("outbound, submitted and delivered", instructions)
