"""Who waits in line for a busy destination, and who goes on when."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pfsmtp.delivery.relay.backoff import Held
from pfsmtp.mailqueue.entry import Wish
from pfsmtp.roles.lines import Lines

AWAY = Held(2000.0, "away")


@dataclass(frozen=True)
class Unit:
    name: str
    domain: str = "example.org"
    due: float = 0.0
    wish: Wish | None = None


@dataclass
class FakeRelay:
    """Has so much room everywhere, and leaves all alone that it is told to."""

    free: int = 0
    held: Held | None = None
    smart_host: str | None = None

    def destination(self, domain: str) -> str:
        return self.smart_host or domain

    def room(self, destination: str) -> int:
        return self.free

    def look(self, domain: str) -> Held | None:
        return self.held


@dataclass
class World:
    relay: FakeRelay = field(default_factory=FakeRelay)
    given_back: list[tuple[str, Held | None]] = field(default_factory=list)
    lines: Lines = field(init=False)

    def __post_init__(self) -> None:
        self.lines = Lines(
            self.relay,  # type: ignore[arg-type]
            lambda unit, held: self.given_back.append((unit.name, held)),  # type: ignore[attr-defined]
        )

    def join(self, names: str) -> None:
        for name in names:
            assert self.lines.join(Unit(name))

    def following(self, domain: str = "example.org") -> str | None:
        unit = self.lines.next_after(Unit("done", domain))
        return None if unit is None else unit.name  # type: ignore[attr-defined]


@pytest.fixture
def world() -> World:
    return World()


def test_nobody_waits_where_there_is_room(world: World) -> None:
    world.relay.free = 1
    assert not world.lines.join(Unit("a"))
    assert world.following() is None


def test_who_came_first_goes_first(world: World) -> None:
    world.join("abc")
    world.relay.free = 1
    assert [world.following() for _ in range(4)] == ["a", "b", "c", None]
    assert world.given_back == []


def test_room_for_more_sends_another_to_another_thread(world: World) -> None:
    world.join("abcd")
    world.relay.free = 5
    assert world.following() == "a"
    assert world.given_back == [("b", None)]
    assert world.following() == "c"
    assert world.given_back == [("b", None), ("d", None)]
    assert world.following() is None


def test_nobody_goes_on_when_the_room_is_taken_meanwhile(world: World) -> None:
    world.join("a")
    assert world.following() is None
    world.relay.free = 1
    assert world.following() == "a"


def test_all_go_back_when_the_destination_fails(world: World) -> None:
    world.join("abc")
    world.relay.held = AWAY
    assert world.following() is None
    assert world.given_back == [("a", AWAY), ("b", AWAY), ("c", AWAY)]
    world.relay.held = None
    world.relay.free = 1
    assert world.following() is None


def test_destinations_have_lines_of_their_own(world: World) -> None:
    world.join("a")
    world.relay.free = 1
    assert world.following("example.net") is None
    assert world.following() == "a"


def test_domains_of_a_smart_host_stand_in_one_line(world: World) -> None:
    world.relay.smart_host = "smart.example"
    world.join("a")
    world.relay.free = 1
    assert world.following("example.net") == "a"


def test_closed_lines_keep_nobody(world: World) -> None:
    world.join("ab")
    world.lines.close()
    assert world.given_back == [("a", None), ("b", None)]
    assert not world.lines.join(Unit("c"))
    assert world.following() is None
