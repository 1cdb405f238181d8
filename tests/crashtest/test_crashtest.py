"""`pfsmtp -c FILE crashtest` as an operator runs it: for seconds, or ten minutes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.crashtest.running import Figures, Run, as_lines
from tests.figures import Show
from tests.running.program import PATIENCE, ROOT, Program, eventually, open_to_nobody


@pytest.fixture
def run() -> Iterator[Callable[..., Run]]:
    begun = []

    def run(server: Program, *options: str) -> Run:
        begun.append(Run(server, *options))
        return begun[-1]

    yield run
    for each in begun:
        each.abandon()


@pytest.fixture
def inbound(tmp_path: Path) -> Program:
    return Program.inbound(tmp_path / "in")


@pytest.fixture
def outbound(tmp_path: Path) -> Program:
    return Program.outbound(tmp_path / "out", workers={"processes": 2, "deliverers": 2})


def is_pending(number: signal.Signals, pid: int) -> bool:
    """Whether a process has been sent a signal that it has not seen yet."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^ShdPnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert found is not None
    return bool(int(found[1], 16) >> (number - 1) & 1)


@pytest.fixture(
    params=[
        ("--for", "3s", "--every", "250ms", "--clients", "4"),
        pytest.param(("--for", "10min"), marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
    ids=["seconds", "ten-minutes"],
)
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """How long, and how hard."""
    return (*request.param, "--json")


def in_order(figures: Figures) -> bool:
    """Whether there was something to lose, and nothing was."""
    assert figures["kills"] > 1
    assert figures["acknowledged"] > 20
    assert figures["acknowledged_recipients"] > figures["acknowledged"]
    return not any(figures[name] for name in ("missing", "duplicated", "partial", "hangs"))


def test_i1_inbound_loses_nothing_that_was_acknowledged(
    inbound: Program, run: Callable[..., Run], options: tuple[str, ...], show: Show
) -> None:
    before = sorted(inbound.directory.rglob("*"))
    crash = run(inbound, *options)
    assert crash.end() == 0, crash.told + crash.progress
    show("Crash test: inbound", as_lines(crash.figures))
    figures = crash.figures
    assert in_order(figures)
    assert figures["found"] == figures["acknowledged_recipients"]
    assert crash.verdict["faults"] == []
    assert sorted(inbound.directory.rglob("*")) == before


def test_o2_outbound_brings_every_recipient_to_one_end(
    outbound: Program, run: Callable[..., Run], options: tuple[str, ...], show: Show
) -> None:
    before = sorted(outbound.directory.rglob("*"))
    crash = run(outbound, *options)
    assert crash.end() == 0, crash.told + crash.progress
    show("Crash test: outbound", as_lines(crash.figures))
    figures = crash.figures
    assert in_order(figures)
    ends = sum(figures[end] for end in ("delivered", "bounced", "queued"))
    assert ends == figures["acknowledged_recipients"]
    assert figures["delivered"] > figures["bounced"] > 0
    assert figures["duplicated_after_a_hang_up"] > 0
    assert crash.verdict["faults"] == []
    assert sorted(outbound.directory.rglob("*")) == before


def test_o2_outbound_into_inbound_loses_nothing_between_them(
    inbound: Program,
    outbound: Program,
    run: Callable[..., Run],
    options: tuple[str, ...],
    show: Show,
) -> None:
    crash = run(outbound, *options, "--into", str(inbound.config))
    assert crash.end() == 0, crash.told + crash.progress
    show("Crash test: outbound into inbound", as_lines(crash.figures))
    figures = crash.figures
    assert in_order(figures)
    assert figures["delivered"] == figures["acknowledged_recipients"]
    for server in (inbound, outbound):
        assert list(server.directory.glob("pfsmtp-crashtest-*")) == []


def test_workers_of_another_user_find_their_way(tmp_path: Path, run: Callable[..., Run]) -> None:
    needs.root()
    directory = tmp_path / "in"
    directory.mkdir()
    server = Program.inbound(directory, **open_to_nobody(directory))
    crash = run(server, "--for", "1s", "--json")
    assert crash.end() == 0, crash.told + crash.progress


def test_whatever_is_wrong_is_found_out(inbound: Program, run: Callable[..., Run]) -> None:
    crash = run(inbound, "--for", "3s", "--every", "10min", "--clients", "1")
    eventually(lambda: len(crash.delivered()) > 10)
    gone, changed, doubled, *_ = sorted(crash.delivered(), key=lambda file: file.name)
    gone.unlink()
    changed.write_bytes(changed.read_bytes()[:-20])
    doubled.with_name("doubled").write_bytes(doubled.read_bytes())
    doubled.with_name("partial").write_bytes(b"Return-Path: <a")
    assert crash.end() == 1
    # Who has not looked at it by then only knows that it is not there.
    assert re.search(f"{gone.name} was .*gone|was acknowledged, and is missing", crash.told)
    assert re.search(f"{changed.name}.* (no more|octets in place)", crash.told)
    assert "is there 2 times for" in crash.told
    assert "new/partial: it does not begin with our own fields" in crash.told
    assert "FAILED: " in crash.told
    site = crash.site
    assert site is not None
    assert f"Everything is kept in {site}" in crash.told
    assert {"server.toml", "server.log", "figures.json", "mail"} <= set(os.listdir(site))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_with_a_verdict_so_far(
    inbound: Program, run: Callable[..., Run], number: signal.Signals
) -> None:
    crash = run(inbound, "--for", "10min")
    eventually(lambda: len(crash.delivered()) > 3)
    crash.process.send_signal(number)
    assert crash.end() == 0, crash.told + crash.progress
    assert "Nothing that was acknowledged is lost" in crash.told
    assert crash.site is None


def test_a_second_interrupt_gives_it_up(outbound: Program, run: Callable[..., Run]) -> None:
    crash = run(outbound, "--for", "10min", "--every", "10min")
    eventually(lambda: "message-accepted" in crash.log())
    assert crash.site is not None
    master = int((crash.site / "queue" / "lock").read_text())
    os.kill(master, signal.SIGSTOP)  # so that it cannot be stopped in order
    crash.process.send_signal(signal.SIGINT)
    eventually(lambda: is_pending(signal.SIGTERM, master))
    crash.process.send_signal(signal.SIGINT)
    assert crash.end() == 2
    assert "given up" in crash.progress
    assert crash.site is None
    assert not Path(f"/proc/{master}").exists()


def test_on_a_terminal_progress_is_one_line_that_is_gone_at_the_end(inbound: Program) -> None:
    master, slave = os.openpty()
    options = ("--for", "1s", "--keep", "--seed", "42", "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "pfsmtp", "-c", str(inbound.config), "crashtest", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        os.close(slave)
        told, _ = process.communicate(timeout=2 * PATIENCE)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert process.returncode == 0
    assert "\n" not in shown
    assert "acknowledged; " in shown
    assert shown.endswith("\r\x1b[K")
    verdict = json.loads(told)
    assert verdict["seed"] == 42
    assert Path(verdict["kept"], "figures.json").read_bytes() == told


def test_a_server_that_does_not_start_is_said_with_its_reason(
    inbound: Program, run: Callable[..., Run]
) -> None:
    inbound.reconfigure(user="nobody-of-that-name")
    crash = run(inbound)
    assert crash.end() == 2
    assert "nobody-of-that-name" in crash.progress
    assert crash.site is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--into", "{outbound}"), "--into is for the outbound server"),
        (("--for", "10"), "'10' is not a time span"),
        (("--clients", "0"), "not a number of 1 or more"),
        (("--directory", "{mail}"), "where the real mail is"),
        (("--space", "1000000 GiB"), "--space"),
    ],
)
def test_what_cannot_be_run_is_said(
    inbound: Program,
    outbound: Program,
    run: Callable[..., Run],
    options: tuple[str, ...],
    reason: str,
) -> None:
    mail = inbound.directory / "mail"
    mail.mkdir()
    crash = run(inbound, *(each.format(mail=mail, outbound=outbound.config) for each in options))
    assert crash.end() == 2
    assert reason in crash.progress
    assert crash.site is None
