"""One server for one queue."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pfsmtp.mailqueue.guard import Guard, QueueInUse
from tests import needs
from tests.mailqueue.conftest import START
from tests.process.forked import Child


def taken_by_another(path: Path) -> bool:
    """Whether another process cannot have the queue."""

    def attempt() -> str:
        try:
            Guard(path, now=START)
        except QueueInUse as error:
            return str(error)
        return ""

    text = Child(attempt).result()
    assert text in ("", f"the queue {path} is in use by the server with process id {os.getpid()}")
    return bool(text)


def test_second_server_is_refused_and_told_whose_the_queue_is(tmp_path: Path) -> None:
    guard = Guard(tmp_path / "var" / "queue", now=START)
    assert taken_by_another(tmp_path / "var" / "queue")
    guard.close()
    assert not taken_by_another(tmp_path / "var" / "queue")


def test_server_that_was_killed_keeps_nobody_out(tmp_path: Path) -> None:
    def hold() -> None:
        Guard(tmp_path, now=START)
        os._exit(9)

    assert Child(hold).end()[0] == 9
    Guard(tmp_path, now=START).close()


def test_workers_that_outlive_their_master_keep_nobody_out(tmp_path: Path) -> None:
    ended, test_ends = os.pipe()

    def hold() -> None:
        Guard(tmp_path, now=START)
        if os.fork() == 0:
            os.close(test_ends)
            os.read(ended, 1)
        os._exit(0)

    assert Child(hold).wait() == 0
    Guard(tmp_path, now=START).close()
    os.close(ended)
    os.close(test_ends)


def test_lock_is_no_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        Guard(tmp_path, now=START)
    assert not (tmp_path / "elsewhere").exists()


def test_what_root_makes_is_given_to_the_workers(tmp_path: Path) -> None:
    needs.root()
    guard = Guard(tmp_path / "queue", now=START, owner=(1234, 5678))
    for path in (tmp_path / "queue", tmp_path / "queue" / "lock"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)
    guard.close()
