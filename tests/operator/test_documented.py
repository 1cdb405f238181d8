"""docs/queue.md says what there is, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pfsmtp.config import Schedule
from pfsmtp.mailqueue.entry import Condition, Wish
from pfsmtp.mailqueue.intake import SPILL
from tests.operator.conftest import FULL, Post

TEXT = (Path(__file__).parents[2] / "docs" / "queue.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> list[str]:
    """What is in backquotes in the first cells of the table behind this line."""
    _, _, rest = TEXT.partition(f"\n{heading}")
    assert rest, heading
    (table,) = re.findall(r"\A(?s:.*?)\n((?:\|.*\n)+)", rest)
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return re.findall(r"`([^`]+)`", " ".join(cells))


def test_every_state_is_there() -> None:
    assert first_cells("## States") == [state.value for state in Condition]


def test_every_command_that_changes_messages_is_there() -> None:
    assert sorted(first_cells("## Steering it")) == sorted(wish.value for wish in Wish)


def test_every_filter_is_there(queue: Post) -> None:
    told = {name.split()[0] for name in first_cells("Filters leave out the rest")}
    help = queue("list", "--help").out
    assert told == set(re.findall(r"^  (--\w+) [A-Z{]", help, re.MULTILINE))


@pytest.mark.parametrize("command", ["retry", "hold", "release", "delete", "bounce", "summary"])
def test_filters_are_those_of_all_commands(queue: Post, command: str) -> None:
    help = queue(command, "--help").out
    for name in first_cells("Filters leave out the rest"):
        assert f"  {name.split()[0]} " in help


def test_every_key_is_there(queue: Post) -> None:
    id = queue.put("bob@example.org")
    queue.attempt(id, FULL)
    keys = {*queue("show", id, "--json").object, *queue("show", id, "--json", "--body").object}
    assert set(first_cells("With `--json`, `list` and `show`")) == keys
    (recipient,) = queue("list", "--json").object["recipients"]
    assert first_cells("A recipient:") == [*recipient]
    (queue.directory / "damaged" / "x").write_bytes(b"")
    queue("delete", "--all")
    text = TEXT.replace("\n", " ")
    damaged = "has `state`, `file`, `size` and `since` only"
    assert re.findall(r"`(\w+)`", damaged) == [*queue("list", "--json").object]
    assert damaged in text
    queue.put("bob@example.org")
    (summary,) = re.findall(r"for each destination: (.*?)\. What changes", text)
    assert re.findall(r"`(\w+)`", summary) == [*queue("summary", "--json").object]


def test_the_schedule_is_the_default() -> None:
    schedule = Schedule()
    minutes = [seconds / 60 for seconds in schedule.retries]
    assert minutes == [5, 10, 20, 40, 60]
    assert f"5, 10, 20, 40 min, then each hour; {schedule.jitter:.0%}".replace("%", " %") in TEXT
    for span, key in (
        (f"{schedule.delay_notice / 3600:.0f} h", "delay_notice"),
        (f"{schedule.expire / 86400:.0f} d", "expire"),
        (f"{schedule.expire_bounce / 86400:.0f} d", "expire_bounce"),
    ):
        assert f"| {span} | `{key}` |" in TEXT


def test_bodies_have_files_from_the_size_that_it_says() -> None:
    assert f"bodies of more than {SPILL // 1024} KiB" in TEXT
