"""The operator's command is a process of its own, and reaches a server whether or not it runs."""

from __future__ import annotations

import time

import pytest

from pfsmtp.mailqueue.entry import Condition, Selection, Wish
from pfsmtp.mailqueue.grip import Grip
from pfsmtp.mailqueue.handover import encode
from pfsmtp.mailqueue.spool import Spool
from tests.mailqueue.conftest import (
    DEFERRED,
    START,
    Events,
    SpoolWorld,
    due_now,
    everything,
    put,
    step,
)
from tests.process.forked import Child
from tests.syscalls import Border


def as_operator(files: SpoolWorld, wish: Wish, selection: Selection) -> int:
    """Do it in another process, which knows nothing but the directory."""

    def command() -> int:
        queue = Spool(
            files.path, deliverers=None, log=Events(), number=lambda: 0, clock=files.clock
        )
        return queue.carry_out(wish, selection)

    count = Child(command).result()
    assert isinstance(count, int)
    return count


def test_server_that_runs_hears_of_it_at_once(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    with files.claim(shard) as lease:
        lease.record({0: DEFERRED})
        lease.release(START + 3600)
    assert due_now(shard, START + 1) == []
    began = time.monotonic()
    assert as_operator(files, Wish.RETRY, Selection()) == 1
    shard.hear(10)
    assert time.monotonic() - began < 5
    assert len(due_now(shard, START + 1)) == 1


@pytest.mark.parametrize("wish", [Wish.HOLD, Wish.DELETE])
def test_unit_that_is_held_or_deleted_is_not_handed_out(files: SpoolWorld, wish: Wish) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    assert as_operator(files, wish, Selection()) == 1
    assert due_now(shard, START + 1e6) == []
    assert shard.waiting() == 0


def test_server_that_does_not_run_finds_it_done(files: SpoolWorld) -> None:
    put(files.queue, "a@one.org", "b@two.org", "c@three.org")
    files.spool.close()
    assert as_operator(files, Wish.DELETE, Selection(domain="one.org")) == 1
    assert as_operator(files, Wish.HOLD, Selection(domain="two.org")) == 1
    files.queue = files.spool = files.open()
    assert [unit.domain for unit in due_now(files.shard(), START)] == ["three.org"]


def test_deletion_beats_an_attempt_of_another_process(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    lease = files.claim(shard)
    assert as_operator(files, Wish.DELETE, Selection()) == 1
    assert lease.revoked()
    lease.record({0: DEFERRED})
    lease.release(START + 300)
    assert everything(files.queue) == []


def test_wish_that_came_too_late_for_the_attempt_is_carried_out_by_the_next_hint(
    files: SpoolWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt ends after the wish was written, and had looked for wishes before."""
    shard = files.shard()
    put(files.queue, "a@example.org")
    step(shard)
    lease = files.claim(shard)
    assert as_operator(files, Wish.HOLD, Selection()) == 1
    with monkeypatch.context() as patched:
        patched.setattr(Grip, "wished", lambda grip: None)
        lease.release(START + 300)
    step(shard)
    (view,) = everything(files.queue)
    assert view.condition is Condition.HELD
    assert due_now(shard, START + 1e6) == []


def test_operator_makes_nothing(files: SpoolWorld) -> None:
    put(files.queue, "a@example.org")
    before = sorted(files.path.rglob("*"))
    assert as_operator(files, Wish.HOLD, Selection(domain="none.org")) == 0
    assert sorted(files.path.rglob("*")) == before


def test_units_are_found_though_the_pipe_is_full(files: SpoolWorld) -> None:
    shard = files.shard()
    put(files.queue, *(f"a@domain{number}.example" for number in range(30)))
    step(shard)
    assert shard.waiting() == 30
    for wish, waiting in ((Wish.HOLD, 0), (Wish.RELEASE, 30)):
        while files.spool._files.announcer.tell(0, encode(0, 0)):
            pass
        assert as_operator(files, wish, Selection()) == 30
        deadline = time.monotonic() + 20
        while shard.waiting() != waiting:
            step(shard)
            assert time.monotonic() < deadline


def test_what_was_done_is_on_disk_when_the_command_ends(files: SpoolWorld) -> None:
    """One sync for all units of a file, and only then the deliverers are told."""
    put(files.queue, *(f"a@domain{number}.example" for number in range(5)))
    put(files.queue, "a@example.org")
    calls = ("pwritev", "pwrite64", "fdatasync", "write")
    border = Border(calls)
    assert border.run(lambda: files.queue.carry_out(Wish.HOLD, Selection())) == 6
    names = [call.name for call in border.calls]
    assert names == ["pwrite64"] * 6 + ["fdatasync"] + ["write"] * 6
