"""What a deliverer has to do and when, in memory."""

from __future__ import annotations

import random
import tracemalloc

from pfsmtp.mailqueue.agenda import Agenda, Unit


def all_due(agenda: Agenda, now: float) -> list[int]:
    places = []
    while (unit := agenda.due(now)) is not None:
        places.append(unit.place)
    return places


def test_units_are_handed_out_by_when_they_are_due() -> None:
    agenda = Agenda()
    times = list(range(100))
    random.Random(1).shuffle(times)
    for time in times:
        agenda.note(time, 1, "example.org", due=float(time))
    assert agenda.next_due() == 0
    assert all_due(agenda, 49) == list(range(50))
    assert agenda.next_due() == 50
    assert len(agenda) == 100


def test_noting_tells_whether_a_unit_is_the_first() -> None:
    agenda = Agenda()
    assert agenda.note(1, 1, "example.org", due=10)
    assert not agenda.note(2, 1, "example.org", due=20)
    assert agenda.note(3, 1, "example.org", due=5)
    assert agenda.note(2, 1, "example.org", due=1)
    assert not agenda.note(2, 1, "example.org", due=1)


def test_unit_that_was_handed_out_is_not_changed_by_what_is_read() -> None:
    agenda = Agenda()
    agenda.note(1, 1, "example.org", due=10)
    unit = agenda.due(10)
    assert unit is not None
    assert not agenda.note(1, 1, "example.org", due=0)
    assert agenda.due(1e9) is None
    assert agenda.newer_than(0) == []
    assert agenda.put_off(unit, 20)
    assert agenda.newer_than(0) == [Unit(20, 1, 1, "example.org")]
    assert agenda.newer_than(1) == []


def test_unit_whose_time_changes_is_handed_out_once() -> None:
    agenda = Agenda()
    for due in (30.0, 10.0, 20.0, 40.0):
        agenda.note(1, 1, "example.org", due=due)
    assert agenda.due(39) is None
    assert all_due(agenda, 40) == [1]


def test_message_that_took_the_place_of_another_is_a_new_one() -> None:
    agenda = Agenda()
    agenda.note(1, 1, "old.org", due=0)
    old = agenda.due(0)
    assert old is not None
    agenda.note(1, 2, "new.org", due=5)
    assert not agenda.put_off(old, 1)
    agenda.forget(1, 1)
    assert agenda.find(1, 1) is None
    assert agenda.find(1, 2) == Unit(5, 1, 2, "new.org")
    assert agenda.due(4) is None
    assert agenda.due(5) == Unit(5, 1, 2, "new.org")


def test_forgotten_unit_is_not_handed_out() -> None:
    agenda = Agenda()
    agenda.note(1, 1, "example.org", due=0)
    agenda.forget(1, 1)
    assert agenda.due(1e9) is None
    assert agenda.next_due() is None
    assert len(agenda) == 0


def test_waiting_unit_costs_at_most_300_octets() -> None:
    count = 20_000
    domains = [f"domain{number}.example" for number in range(100)]
    tracemalloc.start()
    agenda = Agenda()
    for number in range(count):
        domain = f"domain{number % 100}.example"
        agenda.note(number << 28 | 1 << 50, number << 32 | 1 << 60, domain, due=1e9 + number)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(domains) == 100
    assert size / count <= 300
