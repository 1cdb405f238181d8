"""A deliverer is told what the operator wished for, so that it can see to it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfsmtp import durable
from pfsmtp.mailqueue.agenda import Agenda
from pfsmtp.mailqueue.entry import Selection, Wish
from pfsmtp.mailqueue.handover import Announcer, Hint, Inbox, encode
from tests.mailqueue.conftest import DEFERRED, START, World, put, step


@pytest.mark.parametrize("wish", Wish)
def test_hint_says_what_was_wished_for(tmp_path: Path, wish: Wish) -> None:
    directory = durable.Directory(tmp_path)
    inbox, announcer = Inbox(directory, 0), Announcer(directory, 1)
    announcer.tell(0, encode(1, 2, wish=wish))
    assert list(inbox.read()) == [Hint(1, 2, None, wish)]
    inbox.close()
    announcer.close()


def test_wish_goes_with_the_unit_once() -> None:
    agenda = Agenda()
    agenda.note(1, 11, "example.org", due=5)
    agenda.note(2, 22, "example.org", due=5)
    agenda.wish(2, 22, Wish.RETRY)
    agenda.wish(2, 33, Wish.HOLD)  # of a message that was there before
    agenda.wish(3, 33, Wish.HOLD)
    units = {unit.id: unit for unit in (agenda.due(5), agenda.due(5)) if unit is not None}
    assert {id: unit.wish for id, unit in units.items()} == {11: None, 22: Wish.RETRY}
    assert agenda.due(5) is None
    agenda.wish(2, 22, Wish.BOUNCE)  # whoever has it finds that out on disk
    agenda.put_off(units[22], 7)
    again = agenda.due(7)
    assert again is not None
    assert again.wish is None


@pytest.mark.parametrize("wish", [Wish.RETRY, Wish.BOUNCE])
def test_unit_that_is_handed_out_says_what_was_wished_for(world: World, wish: Wish) -> None:
    shard = world.shard()
    put(world.queue, "a@example.org", "b@example.net")
    step(shard)
    for _ in range(2):
        with world.claim(shard) as lease:
            lease.record({0: DEFERRED})
            lease.release(START + 3600)
    world.clock.now += 60
    world.queue.carry_out(wish, Selection(domain="example.org"))
    step(shard)
    unit = shard.due(world.clock())
    assert unit is not None
    assert (unit.domain, unit.wish, unit.due) == ("example.org", wish, world.clock())
    assert shard.due(world.clock()) is None
    shard.put_off(unit, START + 120)
    world.clock.now = START + 120
    unit = shard.due(world.clock())
    assert unit is not None
    assert unit.wish is None
