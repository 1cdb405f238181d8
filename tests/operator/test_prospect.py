"""When a message is tried next, and why not now: also as far as only the server knows."""

from __future__ import annotations

import time

import pytest

from pfsmtp.mailqueue.resting import Resting, publish
from tests.operator.conftest import FULL, Post, server_of

REFUSED = "mx.example.org could not be reached (connection refused)"


def leave_alone(queue: Post, destination: str, seconds: float) -> float:
    """Have a deliverer leave it alone for so long; returns until when."""
    until = time.time() + seconds
    publish(queue.directory, 0, [Resting(destination, until, REFUSED)])
    return until


def stamp(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def test_a_message_waits_with_its_destination(queue: Post) -> None:
    queue.put("bob@example.org")
    until = leave_alone(queue, "example.org", 1850)
    with server_of(queue.directory):
        found = queue("list", "--json").object
        assert found["why"] == f"not tried yet: {REFUSED}"
        assert found["next"] == stamp(until)
        _, row, _, why, _ = queue("list").out.splitlines()
        assert row.split()[5] == "30m"
        assert why == f"    not tried yet: {REFUSED}"
        assert queue("summary", "--json").object["next"] == stamp(until)
        assert "(in 30m)\n" in queue("show", found["id"]).out


def test_what_was_said_of_a_message_counts_more(queue: Post) -> None:
    queue.attempt(queue.put("bob@example.org"), FULL, again=60)
    until = leave_alone(queue, "example.org", 1850)
    with server_of(queue.directory):
        found = queue("list", "--json").object
    assert "The mailbox is full" in found["why"]
    assert found["next"] == stamp(until)


def test_its_own_time_may_be_later(queue: Post) -> None:
    queue.attempt(queue.put("bob@example.org"), FULL, again=3600)
    leave_alone(queue, "example.org", 60)
    with server_of(queue.directory):
        assert queue("list", "--json").object["next"] > stamp(time.time() + 3000)


@pytest.mark.parametrize("state", ["held", "active"])
def test_what_is_not_waiting_has_no_next_time(queue: Post, state: str) -> None:
    id = queue.put("bob@example.org")
    leave_alone(queue, "example.org", 60)
    lease = queue.claim(id) if state == "active" else None
    if lease is None:
        queue("hold", id)
    with server_of(queue.directory):
        found = queue("list", "--json").object
    assert (found["state"], found["next"]) == (state, None)
    if lease is not None:
        lease.release(time.time())


def test_other_destinations_are_not_left_alone(queue: Post) -> None:
    queue.put("bob@example.com")
    leave_alone(queue, "example.org", 1850)
    with server_of(queue.directory):
        assert queue("list", "--json").object["why"] == "not tried yet"


def test_all_wait_for_the_smart_host(queue: Post) -> None:
    queue.configure(relay={"host": "smart.example.net:587"})
    queue.put("bob@example.com")
    until = leave_alone(queue, "smart.example.net", 1850)
    with server_of(queue.directory):
        assert queue("list", "--json").object["next"] == stamp(until)


def test_without_a_server_nothing_is_known_but_that(queue: Post) -> None:
    queue.put("bob@example.org")
    leave_alone(queue, "example.org", 1850)
    assert queue("list", "--json").object["why"] == "not tried yet"
    assert queue("list").out.endswith("1 message, 29B; the server is not running\n")
    assert "the server is not running\n" in queue("summary").out
    with server_of(queue.directory):
        assert queue("list").out.endswith("1 message, 29B\n")
