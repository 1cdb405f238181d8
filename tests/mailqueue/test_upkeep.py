"""What cannot be read is set aside and logged, what nobody needs is removed, and mail goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.mailqueue import upkeep
from pfsmtp.mailqueue.entry import Selection, Wish
from pfsmtp.mailqueue.segment import KINDS, Kind, name_of
from pfsmtp.mailqueue.shard import UnitShard
from pfsmtp.mailqueue.slot import PAGE
from tests import disks
from tests.mailqueue.conftest import DELIVERED, START, MakeSpool, SpoolWorld, put, step

SMALL = KINDS[0]
LARGE = b"x" * 200_000

Harm = Callable[[Path], None]


def slots_file(world: SpoolWorld, kind: Kind = SMALL) -> Path:
    (path,) = (world.path / "slots" / kind.name).iterdir()
    return path


def overwrite(path: Path, at: int, octets: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(octets)


def flip(path: Path, at: int) -> None:
    overwrite(path, at, bytes([path.read_bytes()[at] ^ 0xFF]))


def deliver(shard: UnitShard, now: float) -> list[str]:
    """Deliver all that can be; returns the recipients."""
    found = []
    step(shard)
    while (unit := shard.due(now)) is not None:
        lease = shard.claim(unit)
        if lease is not None:
            found.append(lease.entry.envelope.recipients[0].mailbox.local_part)
            assert b"".join(lease.body.pieces()).endswith(b"whole")
            lease.record({0: DELIVERED})
    return sorted(found)


HARMS: dict[str, Harm] = {
    "magic": lambda path: flip(path, PAGE),
    "head": lambda path: flip(path, PAGE + 20),
    "envelope": lambda path: flip(path, PAGE + 80),
    "recipients": lambda path: flip(path, PAGE + path.read_bytes()[PAGE:].index(b"second")),
    "body": lambda path: flip(path, PAGE + path.read_bytes()[PAGE:].index(b"whole")),
    "no head": lambda path: overwrite(path, PAGE, bytes(64)),
    "garbage": lambda path: overwrite(path, PAGE, os.urandom(PAGE)),
    "text": lambda path: overwrite(path, PAGE, b"not a slot at all " * 100),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("running", [False, True])
def test_damaged_message_is_set_aside_and_logged_and_the_others_are_delivered(
    files: SpoolWorld, harm: str, running: bool
) -> None:
    shard = files.shard() if running else None
    for name in ("first", "second", "third"):
        put(files.queue, f"{name}@example.org", message=b"whole")
    path = slots_file(files)
    HARMS[harm](path)
    before = path.read_bytes()[PAGE : 2 * PAGE]
    shard = shard or files.shard()
    assert deliver(shard, START) == ["first", "third"]
    files.clock.now += 60
    assert deliver(shard, files.clock()) == []
    assert files.events.names == ["queue-damaged"]
    (aside,) = (files.path / "damaged").iterdir()
    assert aside.read_bytes() == before
    assert [each.name for each in files.queue.damaged()] == [aside.name]
    assert files.events.lines[0][1]["file"] == f"damaged/{aside.name}"
    assert list(files.queue.views(Selection())) == []
    # Its slot is used again.
    for _ in range(SMALL.count):
        put(files.queue, "again@example.org", message=b"whole")
    assert len(deliver(shard, files.clock())) == SMALL.count


def test_finished_slot_that_is_damaged_harms_nobody(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org", message=b"whole")
    assert deliver(shard, START) == ["a"]
    flip(slots_file(files), 30)
    put(files.queue, "b@example.org", message=b"whole")
    assert deliver(files.shard(), START) == ["b"]


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


BODY_HARMS: dict[str, Harm] = {
    "cut": lambda path: os.truncate(path, 1000),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: os.truncate(path, 1_000_000),
    "flipped": lambda path: flip(path, 150_000),
    "gone": lambda path: path.unlink(),
    "link": make_link,
}


@pytest.mark.parametrize("harm", BODY_HARMS)
def test_message_whose_body_is_damaged_is_set_aside_with_it(files: SpoolWorld, harm: str) -> None:
    shard = files.shard()
    id = put(files.queue, "large@example.org", message=LARGE + b"whole")
    put(files.queue, "small@example.org", message=b"whole")
    BODY_HARMS[harm](files.path / "bodies" / id)
    for _ in range(3):
        found = deliver(shard, files.clock())
        assert found in (["small"], [])
        files.clock.now += 60
    assert list((files.path / "bodies").iterdir()) == []
    damaged = {path.name.rpartition("-")[2] for path in (files.path / "damaged").iterdir()}
    assert ("body" in damaged) == (harm != "gone")
    assert "queue-damaged" in files.events.names
    assert list(files.queue.views(Selection())) == []


@pytest.mark.parametrize("length", [0, 100, PAGE, PAGE + 1000, 100 * PAGE])
def test_file_that_was_cut_short_is_mended_and_logged(files: SpoolWorld, length: int) -> None:
    for name in ("first", "second", "third"):
        put(files.queue, f"{name}@example.org", message=b"whole")
    os.truncate(slots_file(files), length)
    files.restart()
    shard = files.shard()
    whole = length // PAGE
    assert deliver(shard, START) == sorted(["first", "second", "third"][:whole])
    assert "queue-file-short" in files.events.names
    assert slots_file(files).stat().st_size == SMALL.size * SMALL.count
    for _ in range(2 * SMALL.count):
        put(files.queue, "again@example.org", message=b"whole")
    assert len(deliver(shard, START)) == 2 * SMALL.count


def test_foreign_file_is_moved_away_and_logged(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org", message=b"whole")
    for name in ("core", "00000001.bak"):
        (files.path / "slots" / "4k" / name).write_bytes(b"something")
    assert deliver(files.shard(), START) == ["a"]
    assert files.events.names == ["queue-file-foreign"] * 2
    damaged = [path.name for path in (files.path / "damaged").iterdir()]
    assert sorted(name[:-9] for name in damaged) == ["4k-00000001.bak", "4k-core"]


def test_whole_file_of_garbage_stops_nothing(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org", message=b"whole")
    garbage = os.urandom(SMALL.size * 20).ljust(SMALL.size * SMALL.count, b"\0")
    (files.path / "slots" / "4k" / "00000007").write_bytes(garbage)
    assert deliver(files.shard(), START) == ["a"]
    assert files.events.names == ["queue-damaged"] * 20


def test_slot_at_work_is_not_set_aside_under_who_works_on_it(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@one.org", "b@two.org", message=b"whole")
    step(shard)
    lease = files.claim(shard)
    flip(slots_file(files), 20)
    other = files.shard()
    assert other.waiting() == 0
    assert files.events.names == []
    lease.record({0: DELIVERED})
    files.shard()
    assert files.events.names == ["queue-damaged"]


def test_damaged_slot_stays_where_it_is_while_there_is_no_room_to_set_it_aside(
    make_spool: MakeSpool, tmp_path: Path
) -> None:
    with disks.tmpfs(tmp_path / "disk", "size=6m") as disk:
        world = make_spool(disk / "queue")
        put(world.queue, "a@example.org", message=b"whole")
        put(world.queue, "b@example.org", message=b"whole")
        flip(slots_file(world), 20)
        filler = disks.fill(disk)
        shard = world.shard()
        assert deliver(shard, START) == ["b"]
        assert set(world.events.names) == {"queue-trouble"}
        assert list((world.path / "damaged").iterdir()) == []
        filler.unlink()
        world.shard()
        assert world.events.names[-1] == "queue-damaged"
        world.close()


def test_looking_sets_nothing_aside(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org", message=b"whole")
    path = slots_file(files)
    flip(path, 20)
    before = path.read_bytes()
    assert list(files.queue.views(Selection())) == []
    assert files.queue.damaged() == []
    assert path.read_bytes() == before
    assert files.events.lines == []


def test_files_of_free_slots_are_removed_but_for_some(files: SpoolWorld) -> None:
    for _ in range(10 * SMALL.count):
        put(files.queue, "a@example.org")
    assert len(list((files.path / "slots" / "4k").iterdir())) == 10
    files.queue.carry_out(Wish.DELETE, Selection())
    files.restart()
    put(files.queue, "a@example.org", message=b"whole")
    shard = files.shard()
    left = sorted(path.name for path in (files.path / "slots" / "4k").iterdir())
    assert upkeep.SPARE < len(left) <= upkeep.SPARE + 2
    assert "00000010" in left
    assert deliver(shard, START) == ["a"]


def test_file_that_came_into_use_meanwhile_is_kept(files: SpoolWorld) -> None:
    for _ in range(8 * SMALL.count):
        put(files.queue, "a@example.org", message=b"whole")
    files.restart()
    segments = files.spool._files.segments
    upkeep.remove_spare(files.spool._files, segments.existing(SMALL))
    assert len(deliver(files.shard(), START)) == 8 * SMALL.count


def test_files_that_are_in_use_are_kept(files: SpoolWorld) -> None:
    for number in range(10 * SMALL.count):
        put(files.queue, f"a@domain{number % 10}.example", message=b"whole")
    for number in range(1, 10):
        files.queue.carry_out(Wish.DELETE, Selection(domain=f"domain{number}.example"))
    files.restart()
    shard = files.shard()
    assert len(list((files.path / "slots" / "4k").iterdir())) == 10
    assert len(deliver(shard, START)) == SMALL.count


def test_abandoned_files_are_swept_after_36_hours_and_no_others(files: SpoolWorld) -> None:
    shard = files.shard()
    kept = put(files.queue, "a@example.org", message=LARGE + b"whole")
    now = time.time()
    files.clock.now = now
    names = {
        "bodies": ("0" * 16, now - upkeep.ABANDONED - 60),
        "tmp": ("4k.0123", now - upkeep.ABANDONED - 60),
        "damaged": ("old", now - 1e7),
    }
    for directory, (name, when) in names.items():
        for suffix, time_of in (("", when), ("-young", now)):
            path = files.path / directory / (name + suffix)
            path.write_bytes(b"x")
            os.utime(path, (time_of, time_of))
    body = files.path / "bodies" / kept
    os.utime(body, (now - 1e7, now - 1e7))
    files.shard()
    left = {str(path.relative_to(files.path)) for path in files.path.rglob("*") if path.is_file()}
    assert left >= {"bodies/" + "0" * 16 + "-young", "tmp/4k.0123-young", f"bodies/{kept}"}
    assert left >= {"damaged/old", "damaged/old-young"}
    assert not left & {"bodies/" + "0" * 16, "tmp/4k.0123"}
    assert files.events.names == ["queue-file-abandoned"] * 2
    step(shard)
    assert deliver(shard, files.clock()) == ["a"]
    assert not body.exists()


def test_body_is_kept_until_the_last_unit_is_finished(files: SpoolWorld) -> None:
    shard = files.shard()
    id = put(files.queue, "a@one.org", "b@two.org", message=LARGE + b"whole")
    body = files.path / "bodies" / id
    step(shard)
    first, second = files.claim(shard), files.claim(shard)
    first.record({0: DELIVERED})
    assert body.exists()
    second.record({0: DELIVERED})
    assert not body.exists()


def test_body_of_a_deleted_message_is_removed(files: SpoolWorld) -> None:
    id = put(files.queue, "a@one.org", "b@two.org", message=LARGE)
    files.queue.carry_out(Wish.DELETE, Selection(domain="one.org"))
    assert (files.path / "bodies" / id).exists()
    files.queue.carry_out(Wish.DELETE, Selection())
    assert not (files.path / "bodies" / id).exists()


def test_only_one_shard_tidies(make_spool: MakeSpool) -> None:
    world = make_spool(deliverers=2)
    (world.path / "slots" / "4k" / "core").write_bytes(b"something")
    world.shard(1)
    assert world.events.names == []
    world.shard(0)
    assert world.events.names == ["queue-file-foreign"]


def test_names_of_what_was_set_aside_tell_where_it_was(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org")
    put(files.queue, "b@example.org")
    flip(slots_file(files), PAGE)
    files.shard()
    (damaged,) = files.queue.damaged()
    assert damaged.name.startswith(name_of(1).replace("/", "-") + "-1-")
    assert damaged.size == SMALL.size
