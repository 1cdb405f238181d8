"""What operators do gets into the server's log: at once, or later; and never costs the deed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pfsmtp.mailqueue.entry import Selection, Wish
from pfsmtp.mailqueue.spool import Spool
from tests.mailqueue.conftest import (
    DELIVERED,
    START,
    Events,
    MakeSpool,
    SpoolWorld,
    due_now,
    everything,
    put,
    step,
)
from tests.process.forked import Child
from tests.syscalls import Border, failing


def steered(files: SpoolWorld) -> list[dict[str, object]]:
    return [fields for name, fields in files.events.lines if name == "queue-steered"]


def notes(files: SpoolWorld) -> list[Path]:
    return [*files.path.glob("deeds.*"), *files.path.glob("tmp/deeds.*")]


def as_operator(files: SpoolWorld, wish: Wish, selection: Selection) -> None:
    """Do it as another process, whose log nobody reads."""
    queue = Spool(files.path, deliverers=None, log=Events(), number=lambda: 0, clock=files.clock)
    queue.carry_out(wish, selection)
    queue.close()


@pytest.mark.parametrize("wish", list(Wish))
def test_deed_is_logged_by_the_deliverer_that_hears_of_it(files: SpoolWorld, wish: Wish) -> None:
    shard = files.shard()
    id = put(files.queue, "a@example.org", "b@example.org")
    put(files.queue, "c@example.com")
    files.clock.now += 5
    as_operator(files, wish, Selection(id=id))
    assert steered(files) == []
    step(shard)
    assert steered(files) == [
        {
            "command": wish.value,
            "id": id,
            "destination": "example.org",
            "sender": "sender@example.net",
            "recipients": ["a@example.org", "b@example.org"],
            "uid": os.getuid(),
            "login": steered(files)[0]["login"],
            "at": "2023-11-14T22:13:25Z",
        }
    ]
    assert notes(files) == []


def test_only_who_still_waited_is_named(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org", "b@example.org")
    step(shard)
    with files.claim(shard) as lease:
        lease.record({0: DELIVERED})
        lease.release(START + 3600)
    as_operator(files, Wish.DELETE, Selection())
    step(shard)
    assert [each["recipients"] for each in steered(files)] == [["b@example.org"]]


def test_message_under_attempt_is_logged_as_well(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    with files.claim(shard) as lease:
        as_operator(files, Wish.DELETE, Selection())
        step(shard)
        assert [each["command"] for each in steered(files)] == ["delete"]
        lease.release(START + 3600)
    assert everything(files.queue) == []


def test_deed_while_no_server_runs_is_logged_by_the_next(files: SpoolWorld) -> None:
    for number in range(3):
        put(files.queue, f"a@domain{number}.example")
    as_operator(files, Wish.HOLD, Selection(domain="domain1.example"))
    files.clock.now += 1
    as_operator(files, Wish.DELETE, Selection())
    files.restart()
    assert steered(files) == []
    shard = files.shard()
    assert [(each["command"], each["destination"]) for each in steered(files)] == [
        ("hold", "domain1.example"),
        *(("delete", f"domain{number}.example") for number in range(3)),
    ]
    due_now(shard, START)
    assert len(steered(files)) == 4
    assert notes(files) == []


def test_one_of_several_deliverers_logs_it(make_spool: MakeSpool) -> None:
    files = make_spool(deliverers=3)
    shards = [files.shard(index) for index in range(3)]
    put(files.queue, *(f"a@domain{number}.example" for number in range(10)))
    as_operator(files, Wish.RETRY, Selection())
    for shard in reversed(shards):
        step(shard)
    assert len(steered(files)) == 10


def test_nothing_done_is_nothing_logged(files: SpoolWorld) -> None:
    shard = files.shard()
    as_operator(files, Wish.DELETE, Selection())
    step(shard)
    assert notes(files) == []
    assert files.events.names == []


def test_note_that_cannot_be_left_keeps_nobody_from_deleting(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org")
    full = Border(("fsync",), failing("fsync", errno.ENOSPC))
    assert full.run(lambda: files.queue.carry_out(Wish.DELETE, Selection())) == 1
    assert full.calls != []
    assert everything(files.queue) == []
    assert notes(files) == []
    assert files.events.lines == [("deed-unnoted", {"reason": "No space left on device"})]


@pytest.mark.parametrize("octets", [b"", b"[", b"[[1]]", b'[["hold"]]', b"\xff"])
def test_what_is_no_note_is_told_of_and_removed(files: SpoolWorld, octets: bytes) -> None:
    (files.path / "deeds.0").write_bytes(octets)
    files.shard()
    assert files.events.names == ["queue-file-foreign"]
    assert notes(files) == []


def test_note_that_cannot_be_read_stops_no_deliverer(files: SpoolWorld) -> None:
    (files.path / "deeds.0").symlink_to("/etc/passwd")
    put(files.queue, "a@example.org")
    shard = files.shard()
    assert files.events.names == ["queue-trouble"]
    assert len(due_now(shard, START)) == 1


def test_note_of_root_belongs_to_whose_queue_it_is(files: SpoolWorld) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    put(files.queue, "a@example.org")
    os.chown(files.path, 12345, 23456)
    Child(lambda: as_operator(files, Wish.HOLD, Selection())).result()
    (note,) = notes(files)
    assert (note.stat().st_uid, note.stat().st_gid) == (12345, 23456)
    assert note.stat().st_mode & 0o777 == 0o600
