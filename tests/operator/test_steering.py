"""`queue retry`, `hold`, `release`, `delete` and `bounce`: what is named, and nothing else."""

from __future__ import annotations

import errno
import time

import pytest

from pfsmtp.smtp.outcome import Kind
from tests.operator.conftest import FULL, Post, server_of
from tests.syscalls import Border, failing

COMMANDS = ("retry", "hold", "release", "delete", "bounce")
LATER = "; the server is not running, and will go on with it when it is\n"


def states(queue: Post) -> dict[str, str]:
    return {each["id"]: each["state"] for each in queue("list", "--json").objects}


@pytest.fixture
def id(queue: Post) -> str:
    """A message that is to be tried again in an hour; there is another."""
    id = queue.put("bob@example.org")
    queue.attempt(id, FULL)
    other = queue.put("ann@example.com")
    queue.attempt(other, FULL, domain="example.com")
    return id


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_meant_by_default(queue: Post, id: str, command: str) -> None:
    before = queue("list", "--json").out
    answer = queue(command)
    assert (answer.status, answer.out) == (2, "")
    assert "which messages?" in answer.err
    assert queue("list", "--json").out == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("more", [["0" * 16], ["--destination", "example.org"]])
def test_all_is_not_narrowed(queue: Post, id: str, command: str, more: list[str]) -> None:
    before = queue("list", "--json").out
    assert queue(command, "--all", *more).status == 2
    assert queue("list", "--json").out == before


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_id_is_an_error(queue: Post, id: str, command: str) -> None:
    before = queue("list", "--json").out
    answer = queue(command, "0" * 16, "\x1b[2J")
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == (
        f"pfsmtp: there is no message {'0' * 16} in the queue;"
        " there is no message \\x1b[2J in the queue\n"
    )
    assert queue("list", "--json").out == before


def test_those_that_are_there_are_done_whichever_are_not(queue: Post, id: str) -> None:
    answer = queue("delete", "0" * 16, id)
    assert (answer.status, answer.out) == (1, "1 message deleted\n")
    assert id not in states(queue)


def test_retry_makes_it_due(queue: Post, id: str) -> None:
    assert queue("retry", id).out == f"1 message due now{LATER}"
    next = {each["id"]: each["next"] for each in queue("list", "--json").objects}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert next.pop(id) <= now
    assert all(other > now for other in next.values())


def test_held_and_released(queue: Post, id: str) -> None:
    assert queue("hold", id).out == "1 message held\n"
    assert states(queue)[id] == "held"
    assert sorted(states(queue).values()) == ["held", "waiting"]
    assert queue("release", id).out == f"1 message released{LATER}"
    assert states(queue)[id] == "waiting"


def test_what_is_not_held_cannot_be_released(queue: Post, id: str) -> None:
    answer = queue("release", id)
    assert (answer.status, answer.err) == (1, f"pfsmtp: message {id} is not held\n")
    assert queue("release", "--all").out == "0 messages released\n"


def test_what_is_held_stays_so_when_all_the_others_are_retried(queue: Post, id: str) -> None:
    queue("hold", id)
    assert queue("retry", "--all").out == f"1 message due now{LATER}"
    assert states(queue)[id] == "held"
    assert queue("retry", id).status == 0
    assert states(queue)[id] == "waiting"


def test_deleted_is_gone(queue: Post, id: str) -> None:
    assert queue("delete", id).out == "1 message deleted\n"
    assert id not in states(queue)
    assert len(states(queue)) == 1
    assert queue("show", id).status == 1


def test_what_cannot_be_noted_for_the_log_is_done_and_told(queue: Post, id: str) -> None:
    full = Border(("renameat2",), failing("renameat2", errno.ENOSPC))
    answer = full.run(lambda: queue("delete", id, "0" * 16))
    assert id not in states(queue)
    assert (answer.status, answer.out) == (1, "1 message deleted\n")
    told, why = answer.err.splitlines()
    assert told == (
        "pfsmtp: what was done cannot be noted for the server's log: No space left on device"
    )
    assert why.startswith("pfsmtp: there is no message 0")
    assert list(queue.directory.glob("deeds.*")) == []


def test_what_cannot_be_noted_for_the_log_is_no_failure(queue: Post, id: str) -> None:
    full = Border(("renameat2",), failing("renameat2", errno.ENOSPC))
    answer = full.run(lambda: queue("hold", "--all", "--json"))
    assert (answer.status, answer.object) == (0, {"command": "hold", "count": 2})
    assert "cannot be noted" in answer.err
    assert set(states(queue).values()) == {"held"}


def test_bounced_is_to_be_told_to_the_sender(queue: Post, id: str) -> None:
    assert queue("bounce", id).out == f"1 message given up{LATER}"
    found = {each["id"]: each for each in queue("list", "--json").objects}[id]
    assert found["why"] == (
        "the sender is still to be told; returned by the operator of this server"
    )
    assert [(each["state"], each["owed"]) for each in found["recipients"]] == [
        (Kind.FAILED.value, True)
    ]


def test_filters_choose_as_they_do_for_looking(queue: Post, id: str) -> None:
    assert queue("delete", "--destination", "example.com").out == "1 message deleted\n"
    assert list(states(queue)) == [id]
    assert queue("hold", "--sender", "somebody@example.net").out == "0 messages held\n"
    assert queue("hold", "--recipient", "bob@example.org").out == "1 message held\n"
    assert queue("delete", "--older", "1 h").out == "0 messages deleted\n"
    assert queue("delete", "--newer", "1 h", "--state", "waiting").out == "0 messages deleted\n"
    assert queue("delete", "--newer", "1 h", "--state", "held").out == "1 message deleted\n"
    assert states(queue) == {}


def test_an_id_can_be_narrowed_to_one_destination(queue: Post) -> None:
    id = queue.put("a@one.example", "b@two.example")
    assert queue("delete", id, "--destination", "one.example").out == "1 message deleted\n"
    assert queue("list", "--json").object["destination"] == "two.example"
    answer = queue("delete", id, "--destination", "one.example")
    assert answer.err == f"pfsmtp: message {id} is there, but is not what the filters mean\n"
    assert answer.status == 1


def test_all_means_all(queue: Post, id: str) -> None:
    assert queue("delete", "--all").out == "2 messages deleted\n"
    assert states(queue) == {}


def test_a_message_at_work_is_dealt_with_when_the_attempt_ends(queue: Post) -> None:
    id = queue.put("bob@example.org")
    lease = queue.claim(id)
    assert queue("delete", id).out == "1 message deleted\n"
    assert states(queue) == {id: "active"}
    lease.record({0: FULL})
    lease.release(time.time() + 60)
    assert states(queue) == {}


def test_programs_are_told_a_count(queue: Post, id: str) -> None:
    assert queue("hold", "--all", "--json").object == {"command": "hold", "count": 2}


def test_nothing_is_said_of_a_server_that_runs(queue: Post, id: str) -> None:
    with server_of(queue.directory):
        assert queue("retry", id).out == "1 message due now\n"
