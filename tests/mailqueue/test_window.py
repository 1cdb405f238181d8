"""Looking at a queue in files from outside: shows what is there, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.mailqueue import guard
from pfsmtp.mailqueue.entry import Condition, Selection
from pfsmtp.mailqueue.intake import SPILL
from pfsmtp.mailqueue.window import Window
from tests.mailqueue.conftest import MESSAGE, MakeSpool, SpoolWorld, put

NOBODY = 65534
LARGE = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" * SPILL
MANY = [f"user{number}@example.org" for number in range(100)]  # more than the first page holds


def snapshot(path: Path) -> dict[str, tuple[object, ...]]:
    """Each file and directory: its octets, its mode and owner, and when it was changed."""
    found: dict[str, tuple[object, ...]] = {}
    for each in [path, *path.rglob("*")]:
        stat = each.lstat()
        octets = each.read_bytes() if each.is_file() else b""
        times = (stat.st_mtime_ns, stat.st_ctime_ns)
        found[str(each)] = (octets, stat.st_mode, stat.st_uid, stat.st_ino, *times)
    return found


def in_child_as_nobody(check: Callable[[], bool]) -> bool:
    """Whether `check` holds for a user without any rights, in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def look_at_all(path: Path) -> int:
    """Look at everything there is; returns how many units there are."""
    window = Window(path)
    views = list(window.views(Selection()))
    for view in views:
        message = window.message(view.entry.id)
        assert message is not None
        assert sum(map(len, message.pieces())) == view.entry.size
        message.close()
    window.damaged()
    window.close()
    return len(views)


def test_all_units_are_seen(files: SpoolWorld) -> None:
    put(files.queue, "a@one.example", "b@two.example")
    window = Window(files.path)
    views = list(window.views(Selection()))
    assert sorted(view.entry.domain for view in views) == ["one.example", "two.example"]
    assert {view.condition for view in views} == {Condition.WAITING}
    window.close()


def test_a_unit_at_work_is_seen_to_be(files: SpoolWorld) -> None:
    put(files.queue, "a@one.example")
    shard = files.shard()
    files.claim(shard)
    window = Window(files.path)
    (view,) = window.views(Selection())
    assert view.condition is Condition.ACTIVE
    window.close()


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["in a slot", "in a file"])
def test_a_message_is_had_as_it_was_put(files: SpoolWorld, message: bytes) -> None:
    id = put(files.queue, "a@one.example", message=message)
    window = Window(files.path)
    found = window.message(id)
    assert found is not None
    assert b"".join(found.pieces()) == message
    found.close()
    window.close()


def test_a_message_that_is_not_there_is_none(files: SpoolWorld) -> None:
    put(files.queue, "a@one.example")
    window = Window(files.path)
    assert window.message("0" * 16) is None
    window.close()


def test_a_damaged_message_is_an_error_that_says_so(files: SpoolWorld) -> None:
    id = put(files.queue, "a@one.example", message=LARGE)
    (files.path / "bodies" / id).write_bytes(LARGE[:-1] + b"?")
    window = Window(files.path)
    with pytest.raises(OSError, match="damaged"):
        window.message(id)
    window.close()


def test_looking_changes_nothing(files: SpoolWorld) -> None:
    put(files.queue, "a@one.example", *MANY)
    put(files.queue, "a@one.example", message=LARGE)
    before = snapshot(files.path)
    assert look_at_all(files.path) == 3
    assert snapshot(files.path) == before


def test_a_queue_that_was_never_kept_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Window(tmp_path / "queue")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_it_is_enough_to_be_allowed_to_read(
    make_spool: MakeSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_spool()
    put(files.queue, "a@one.example", *MANY)
    put(files.queue, "a@one.example", message=LARGE)
    for each in [files.path, *files.path.rglob("*")]:
        each.chmod(0o755 if each.is_dir() else 0o444)
    # The directories above are for their owner only; an open one is as good as a path.
    monkeypatch.chdir(files.path)
    here = Path(".")
    assert not in_child_as_nobody(lambda: os.access(here, os.W_OK))
    assert in_child_as_nobody(lambda: look_at_all(here) == 3)


def test_the_holder_of_a_queue_is_known_by_its_pid(tmp_path: Path) -> None:
    ready, end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(end[1])
            guard.Guard(tmp_path, now=0.0)
            os.write(ready[1], b"x")
            os.read(end[0], 1)
        finally:
            os._exit(0)
    assert os.read(ready[0], 1)
    found = guard.holder(tmp_path)
    os.close(end[1])
    os.waitpid(child, 0)
    assert found == child
    assert guard.holder(tmp_path) is None
    for fd in (*ready, end[0]):
        os.close(fd)


def test_a_queue_without_a_server_so_far_has_no_holder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        guard.holder(tmp_path)
