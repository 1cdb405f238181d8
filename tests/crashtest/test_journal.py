"""The log of a server that was killed: what in it is a fault, and what is to be expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfsmtp.crashtest.journal import read
from pfsmtp.log import Log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


@pytest.fixture
def log(path: Path) -> Log:
    return Log(path, "json")


def test_an_ordinary_log_has_no_faults(path: Path, log: Log) -> None:
    log.event("worker-died", worker="receiver 1", exit="signal 9")
    log.event("master-died", worker="receiver 1")
    log.event("message-accepted", id="1", sender="x-bug")
    assert read(path).faults == []


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("worker-died", {"exit": "signal 11"}),
        ("worker-died", {"exit": "status 70"}),
        ("worker-stuck", {"silent": 30.0}),
        ("queue-damaged", {"file": "damaged/x"}),
        ("queue-file-short", {"file": "4k/1"}),
        ("connection-bug", {"trace": "Traceback"}),
        ("deliverer-bug", {"trace": "Traceback"}),
    ],
)
def test_what_no_kill_explains_is_a_fault(
    path: Path, log: Log, event: str, fields: dict[str, object]
) -> None:
    log.event(event, **fields)
    assert len(read(path).faults) == 1


def test_a_line_that_a_kill_broke_off_is_no_fault(path: Path, log: Log) -> None:
    log.event("worker-died", exit="signal 9")
    path.write_bytes(path.read_bytes()[:-10])
    assert read(path).faults == []


def test_there_may_be_no_log(path: Path) -> None:
    assert read(path).faults == []


def test_deliveries_that_were_asked_about_are_found(path: Path) -> None:
    log = Log(path, "json", clock=lambda: 1700000000.1239)
    for number in (1, 2):
        sender = f"crashtest+{number}@[127.0.0.1]"
        log.event("delivered", sender=sender, recipient="take.1@b")
    log.event("deferred", sender="crashtest+1@[127.0.0.1]", recipient="take.2@b")
    log.event("delivered", sender="", recipient="crashtest+1@[127.0.0.1]")
    assert read(path, frozenset({1})).delivered == {(1, "take.1@b"): [1700000000.123]}
    assert read(path).delivered == {}
