"""The processes of a server: killed one by one or all at once, started again, stopped.

Of a real server; nothing but its own processes is ever killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pfsmtp.crashtest.program import Failed, Program, State
from pfsmtp.crashtest.schedule import Target
from tests.process.running import ended
from tests.running import program as harness
from tests.running.program import ROOT, eventually


@pytest.fixture
def files(tmp_path: Path) -> harness.Program:
    """The files of an inbound server, which is not started by these means."""
    return harness.Program.inbound(tmp_path)


@pytest.fixture
def program(
    files: harness.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    program = Program(files.config, tmp_path / "stderr", clock=time.monotonic)
    with closing(program):
        yield program
        program.destroy()


def tended(program: Program, holds: Callable[[], bool]) -> Callable[[], bool]:
    def look() -> bool:
        program.tend()
        return holds()

    return look


def await_ready(program: Program) -> None:
    eventually(tended(program, lambda: program.state is State.READY))


def start(program: Program) -> list[int]:
    """Start it, and return its pids, the master's first."""
    program.start()
    await_ready(program)
    return [process.pid for process in program.processes()]


def gone(pids: list[int]) -> bool:
    return all(map(ended, pids))


def test_its_processes_are_a_master_and_workers(program: Program) -> None:
    start(program)
    assert [process.role for process in program.processes()] == ["master", "receiver", "receiver"]


def test_it_is_what_is_installed_even_in_a_checkout_of_something_else(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "pfsmtp").mkdir(parents=True)
    (checkout / "pfsmtp" / "__init__.py").write_text("raise ImportError('not compiled')\n")
    monkeypatch.chdir(checkout)
    start(program)


def test_a_worker_that_is_killed_leaves_the_others(program: Program) -> None:
    master, *workers = start(program)
    assert program.kill(Target.RECEIVER, 0.99)
    eventually(lambda: ended(workers[1]))
    eventually(tended(program, lambda: len(program.processes()) == 3))
    pids = [process.pid for process in program.processes()]
    assert pids[:2] == [master, workers[0]]
    assert program.state is State.READY


def test_there_is_nobody_to_kill_of_another_kind(program: Program) -> None:
    before = start(program)
    assert not program.kill(Target.DELIVERER, 0.5)
    assert [process.pid for process in program.processes()] == before


@pytest.mark.parametrize("target", [Target.MASTER, Target.ALL])
def test_a_server_without_its_master_is_started_again(program: Program, target: Target) -> None:
    before = start(program)
    assert program.kill(target, 0.5)
    assert program.state is State.STARTING
    await_ready(program)
    eventually(tended(program, lambda: gone(before)))
    assert len(program.processes()) == 3
    assert program.stop(within=20) == []


def test_all_are_killed_at_once(program: Program) -> None:
    before = start(program)
    program.kill(Target.ALL, 0.5)
    eventually(lambda: gone(before))


def test_it_is_killed_while_it_starts(program: Program) -> None:
    for _ in range(5):
        program.start() if program.state is State.STOPPED else program.tend()
        program.kill(Target.ALL, 0.5)
    await_ready(program)
    assert program.stop(within=20) == []


def test_a_start_that_fails_is_tried_again(program: Program, files: harness.Program) -> None:
    with socket.create_server(("127.0.0.1", files.port)):
        program.start()
        eventually(tended(program, lambda: program.failed_starts > 0))
        assert "another program has port" in program.last_words()
    await_ready(program)


def test_a_master_that_ends_by_itself_is_a_failure(program: Program) -> None:
    master, *_ = start(program)
    os.kill(master, signal.SIGSEGV)
    with pytest.raises(Failed, match="by itself, with signal"):
        eventually(tended(program, lambda: False))


def test_a_stop_leaves_nothing_and_says_nothing(program: Program) -> None:
    before = start(program)
    assert program.stop(within=20) == []
    assert gone(before)
    assert program.state is State.STOPPED


def test_a_stop_that_is_not_in_order_is_said(program: Program) -> None:
    master, *_ = start(program)
    os.kill(master, signal.SIGKILL)
    eventually(lambda: ended(master))
    assert program.stop(within=20) == ["it stopped with signal 9 in place of status 0"]


def test_a_server_that_does_not_stop_is_said_and_killed(program: Program) -> None:
    before = start(program)
    os.kill(before[0], signal.SIGSTOP)
    wrong = program.stop(within=0.3)
    assert wrong[0] == "it did not stop within 0.3 seconds of SIGTERM"
    assert gone(before)


def test_another_server_is_not_touched(program: Program, tmp_path: Path) -> None:
    with harness.Program.inbound(tmp_path / "other") as other:
        pids = [other.pid, *other.workers()]
        start(program)
        for target in (Target.RECEIVER, Target.MASTER, Target.ALL):
            program.kill(target, 0.0)
            await_ready(program)
        program.stop(within=20)
        assert [other.pid, *other.workers()] == pids
        assert not any(ended(pid) for pid in pids)


def test_a_server_does_not_outlive_the_test(files: harness.Program, tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from pfsmtp.crashtest.program import Program, State\n"
        "program = Program(Path(sys.argv[1]), Path(sys.argv[2]), clock=time.monotonic)\n"
        "program.start()\n"
        "while program.state is not State.READY:\n    program.tend()\n"
        "print(*[process.pid for process in program.processes()], flush=True)\n"
        "sys.stdin.read()\n"
    )
    test = subprocess.Popen(
        [sys.executable, "-c", script, str(files.config), str(tmp_path / "stderr")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with test:
        assert test.stdout is not None
        pids = [int(pid) for pid in test.stdout.readline().split()]
        assert len(pids) == 3
        test.kill()
        try:
            eventually(lambda: gone(pids))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(pids[0], signal.SIGKILL)
