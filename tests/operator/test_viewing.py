"""`queue list`, `show` and `summary`: each message with why it waits, by whom, and until when."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfsmtp.operator.listing import NOT_RUNNING
from pfsmtp.operator.text import width
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Recipient
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status
from tests.mailqueue.test_window import snapshot
from tests.operator.conftest import DELIVERED, FULL, REFUSED, Post

HOUR, DAY = 3600.0, 86400.0
MINUTE = 60.0
SAID = "mx.example.org refused the recipient: 452 4.2.2 The mailbox is full"


def test_a_waiting_message_has_its_reason_and_its_times(queue: Post) -> None:
    id = queue.put("bob@example.org", ago=2 * HOUR)
    queue.attempt(id, FULL, again=38 * MINUTE + 30)
    assert queue("list").out.splitlines() == [
        "ID                STATE      AGE   SIZE  TRIES   NEXT  UNTIL  DESTINATION",
        f"{id}  waiting     2h    29B      1    38m  4d21h  example.org",
        "    from sender@example.net to bob@example.org",
        f"    {SAID}",
        f"1 message, 29B{NOT_RUNNING}",
    ]


def test_a_notice_is_given_up_sooner(queue: Post) -> None:
    queue.put("bob@example.org", sender="", ago=HOUR)
    _, row, names, *_ = queue("list").out.splitlines()
    assert row.split()[6] == "1d22h"
    assert names == "    from <> to bob@example.org"


def test_a_message_not_tried_yet_says_so(queue: Post) -> None:
    queue.put("bob@example.org")
    assert "    not tried yet\n" in queue("list").out


def test_what_no_remote_said_is_a_reason_too(queue: Post) -> None:
    id = queue.put("bob@example.org")
    queue.attempt(id, reason="the limit of new connections is reached")
    assert "    the limit of new connections is reached\n" in queue("list").out


def test_a_held_message_has_no_next_attempt(queue: Post) -> None:
    id = queue.put("bob@example.org")
    queue.attempt(id, FULL)
    assert queue("hold", id).status == 0
    assert queue("list", "--json").object["next"] is None
    _, row, _, reason, _ = queue("list").out.splitlines()
    assert row.split()[1] == "held"
    assert row.split()[5] == "-"
    assert reason == f"    held by the operator; {SAID}"


def test_a_message_at_work_is_active(queue: Post) -> None:
    lease = queue.claim(queue.put("bob@example.org"))
    assert queue("list", "--json").object["state"] == "active"
    assert "an attempt is under way" in queue("list").out
    lease.release(time.time())


def test_a_message_whose_sender_is_to_be_told_says_so(queue: Post) -> None:
    id = queue.put("bob@example.org")
    failed = Outcome(Kind.FAILED, Status(5, 1, 1), "550 5.1.1 No", "mx.example.org", command="RCPT")
    queue.attempt(id, failed, owed=[0])
    why = "the sender is still to be told; mx.example.org refused the recipient: 550 5.1.1 No"
    assert queue("list", "--json").object["why"] == why


def test_of_many_reasons_the_first_is_shown_and_the_others_counted(queue: Post) -> None:
    id = queue.put(*[f"{name}@example.org" for name in "abcd"])
    queue.attempt(id, DELIVERED, FULL, FULL, REFUSED)
    assert f"    {SAID} (and 1 more)\n" in queue("list").out


def test_only_those_are_named_who_still_wait(queue: Post) -> None:
    id = queue.put("a@example.org", "b@example.org")
    queue.attempt(id, DELIVERED, FULL)
    assert "    from sender@example.net to b@example.org\n" in queue("list").out


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal(
    queue: Post, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    domain = f"{'long.' * 30}example.org"
    many = [f"{'漢字' * 4}{number}@{domain}" for number in range(8)]
    id = queue.put(*many, ago=100 * DAY)
    queue.attempt(id, *[FULL] * 8, domain=domain)
    queue.put("bob@example.org")
    for command in ("list", "summary"):
        lines = queue(command).out.splitlines()
        assert max(map(width, lines)) == columns
    assert "…" in queue("list").out


def test_recipients_that_there_is_no_room_for_are_counted(
    queue: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    queue.put(*[f"user{number}@example.org" for number in range(100)])
    names = queue("list").out.splitlines()[2]
    assert (
        names == "    from sender@example.net to user0@example.org, user1@example.org and 98 more"
    )


def test_what_came_from_outside_harms_no_terminal(queue: Post) -> None:
    evil = "\x1b[2J\u202e\x9b\x7f"
    id = queue.put(
        Recipient(Mailbox(f"b{evil}", "example.org"), original=f"rfc822;{evil}"),
        message=b"Subject: \x1b]0;title\x07\xff\r\n\r\n\x1bbody\r\n",
        envelope_id=evil,
    )
    queue.attempt(id, Outcome(Kind.DEFERRED, Status(4, 0, 0), f"4{evil}", evil, command="RCPT"))
    for arguments in (["list"], ["summary"], ["show", id], ["show", id, "--body"]):
        for mode in ([], ["--json"]) if arguments[0] != "summary" else ([],):
            out = queue(*arguments, *mode).out
            assert all(line.isprintable() for line in out.splitlines()), out
    assert "\\x1b[2J\\u202e\\x9b" in queue("list").out
    assert queue("list", "--json").object["recipients"][0]["host"] == evil


def test_objects_hold_all_there_is(queue: Post) -> None:
    ago = 2 * HOUR
    id = queue.put(
        Recipient(Mailbox("bob", "Example.org"), frozenset({"DELAY", "FAILURE"}), "rfc822;b@c.d"),
        ago=ago,
        body="8BITMIME",
        smtputf8=True,
        returning="HDRS",
        envelope_id="x1",
    )
    queue.attempt(id, FULL)
    found = queue("list", "--json").object
    times = {key: found.pop(key) for key in ("queued", "tried", "next", "expires")}
    assert all(time.strptime(value, "%Y-%m-%dT%H:%M:%SZ") for value in times.values())
    assert times["queued"] < times["tried"] < times["next"] < times["expires"]
    assert found == {
        "id": id,
        "destination": "example.org",
        "state": "waiting",
        "why": SAID,
        "sender": "sender@example.net",
        "recipients": [
            {
                "address": "bob@Example.org",
                "state": "deferred",
                "owed": False,
                "notify": ["DELAY", "FAILURE"],
                "original": "rfc822;b@c.d",
                "status": "4.2.2",
                "text": "452 4.2.2 The mailbox is full",
                "command": "RCPT",
                "host": "mx.example.org",
                "ip": "192.0.2.1",
                "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384, not verified",
                "uncertain": False,
            }
        ],
        "size": 29,
        "attempts": 1,
        "delay_reported": False,
        "body": "8BITMIME",
        "smtputf8": True,
        "returning": "HDRS",
        "envelope_id": "x1",
    }


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], {"old", "held", "notice"}),
        (["--destination", "EXAMPLE.ORG"], {"old", "notice"}),
        (["--sender", "sender@example.net"], {"old", "held"}),
        (["--sender", "<Sender@example.net>"], {"old", "held"}),
        (["--sender", "<>"], {"notice"}),
        (["--recipient", "ANN@example.com"], {"held"}),
        (["--older", "2h"], {"old"}),
        (["--older", "90 min", "--destination", "example.com"], set()),
        (["--newer", "2 h"], {"held", "notice"}),
        (["--state", "held"], {"held"}),
        (["--state", "waiting"], {"old", "notice"}),
    ],
)
def test_filters_leave_the_rest_out(queue: Post, filters: list[str], found: set[str]) -> None:
    ids = {
        queue.put("bob@example.org", ago=3 * HOUR): "old",
        (held := queue.put("ann@example.com")): "held",
        queue.put("bob@example.org", sender=""): "notice",
    }
    assert queue("hold", held).status == 0
    listed = queue("list", "--json", *filters).objects
    assert {ids[each["id"]] for each in listed} == found
    counted = queue("summary", "--json", *filters).objects
    assert sum(each["count"] for each in counted) == len(found)


@pytest.mark.parametrize("older", ["2", "2 hours", "-2h", "0 s", ""])
def test_a_time_span_without_a_known_unit_is_wrong_usage(queue: Post, older: str) -> None:
    answer = queue("list", f"--older={older}")
    assert answer.status == 2
    assert "--older" in answer.err


def test_an_empty_queue_is_no_error(queue: Post) -> None:
    queue.spool()
    assert queue("list").out == "no messages\n"
    assert queue("summary").out == "no messages\n"
    assert queue("list", "--json").out == ""


def test_a_queue_that_was_never_kept_is_empty_and_not_made(queue: Post) -> None:
    assert (queue("list").status, queue("list").out) == (0, "no messages\n")
    assert queue("summary").out == "no messages\n"
    assert queue("delete", "--all").out == "0 messages deleted\n"
    assert queue("show", "0" * 16).status == 1
    assert not queue.directory.exists()


def test_damaged_messages_are_listed_with_where_they_are(queue: Post) -> None:
    queue.spool()
    path = queue.directory / "damaged" / "4k-00000001-3-\x1b"
    path.write_bytes(bytes(4096))
    os.utime(path, (time.time() - 120, time.time() - 120))
    for arguments in (["list"], ["list", "--state", "damaged"]):
        last = queue(*arguments).out.splitlines()[-1]
        assert last.startswith("damaged, set aside ")
        assert last.endswith(f"(2m ago): {queue.directory}/damaged/4k-00000001-3-\\x1b, 4.0K")
        found = queue(*arguments, "--json").object
        assert found.pop("since").endswith("Z")
        assert found == {"state": "damaged", "file": str(path), "size": 4096}
    assert queue("list", "--state", "waiting").out == "no messages\n"
    assert f"1 damaged and set aside in {queue.directory}/damaged" in queue("summary").out


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_utc")
def test_show_tells_all_of_one_message(queue: Post) -> None:
    id = queue.put(
        Recipient(Mailbox("ann", "example.org"), frozenset({"NEVER"}), "rfc822;a@b.c"),
        "bob@example.org",
        "carol@example.com",
        ago=2 * HOUR,
        body="8BITMIME",
        returning="FULL",
        envelope_id="x1",
        message="Subject: für Bob\r\n\r\nHidden.\r\n".encode(),
    )
    queue.put("dave@example.org")
    queue.attempt(id, FULL, DELIVERED)
    lines = queue("show", id.lower()).out.splitlines()
    assert lines[0] == f"message      {id}, 30B, 8-bit"
    assert lines[1].startswith("queued       2")
    assert lines[1].endswith(" +0000 (2h ago)")
    assert lines[2:5] == [
        "from         sender@example.net",
        "parameters   BODY=8BITMIME RET=FULL ENVID=x1",
        "",
    ]
    text = "\n".join(lines)
    for expected in (
        f"destination  example.org, waiting\nwhy          {SAID}\n"
        "attempts     1 attempt, the last ",
        "(0s ago)\nnext         ",
        "(in 59m)\ngiven up     ",
        "(in 4d21h)\nrecipient    ann@example.org, deferred\n"
        f"             4.2.2 {SAID}\n"
        "             said by mx.example.org [192.0.2.1], TLSv1.3 TLS_AES_256_GCM_SHA384, not"
        " verified, to RCPT\n"
        "             NOTIFY=NEVER ORCPT=rfc822;a@b.c\n"
        "recipient    bob@example.org, delivered\n"
        "             2.0.0 mx.example.org took the message: 250 Ok\n",
        "destination  example.com, waiting\nwhy          not tried yet\nattempts     none yet\n",
        "recipient    carol@example.com, waiting\n\nSubject: für Bob",
    ):
        assert expected in text
    assert "Hidden" not in text
    assert "dave" not in text


def test_show_has_the_whole_message_if_it_is_wanted(queue: Post) -> None:
    id = queue.put("bob@example.org", message=b"Subject: x\r\n\r\none\r\n.two\r\nno end")
    out = queue("show", id, "--body").out
    assert out.endswith("\n\nSubject: x\n\none\n.two\nno end\n")
    long = b"x" * 100_000 + b"\r\n" + b"y" * 100_000 + b"\r\n"
    id2 = queue.put("bob@example.org", message=b"A: b\r\n\r\n" + long)
    assert queue("show", id2, "--body").out.endswith("\n\n" + long.decode().replace("\r", ""))
    assert queue("show", id, "--json", "--body").object["message"].endswith(".two\r\nno end")
    assert queue("show", id, "--json").object["header"] == "Subject: x\r\n"


def test_show_raw_is_the_message_and_nothing_else(queue: Post) -> None:
    message = b"Subject: \x1b\xff\r\n\r\n" + b"x" * 300_000 + b"\r\n"
    id = queue.put("bob@example.org", message=message)
    assert queue.run("show", id, "--raw").stdout == message


@pytest.mark.parametrize("id", ["0" * 16, "nonsense", "\x1b[2J"])
def test_an_unknown_id_is_an_error(queue: Post, id: str) -> None:
    queue.put("bob@example.org")
    answer = queue("show", id)
    assert (answer.status, answer.out) == (1, "")
    shown = id.replace("\x1b", "\\x1b")
    assert answer.err == f"pfsmtp: there is no message {shown} in the queue\n"


def test_a_damaged_body_is_told_behind_what_is_known(queue: Post) -> None:
    id = queue.put("bob@example.org", message=b"Subject: x\r\n\r\n" + b"x\r\n" * 80_000)
    (queue.directory / "bodies" / id).write_bytes(b"")
    answer = queue("show", id)
    assert answer.status == 1
    assert answer.out.startswith(f"message      {id}")
    assert "damaged" in answer.err


def test_the_summary_has_the_destinations_with_the_most_first(queue: Post) -> None:
    first = queue.put("a@example.org", ago=3 * HOUR)
    queue.attempt(first, FULL, again=30 * MINUTE + 5)
    second = queue.put("b@example.org", "c@example.com", ago=HOUR)
    queue.attempt(second, REFUSED, again=50 * MINUTE)
    assert queue("hold", "--destination", "example.com").status == 0
    assert queue("summary").out.splitlines() == [
        f"3 messages for 2 destinations, 87B, 1 held{NOT_RUNNING}",
        "DESTINATION    COUNT    HELD   SIZE  OLDEST   NEXT  LAST REASON",
        "example.org        2       -    58B      3h    30m  mx.example.org could not be reached",
        "example.com        1       1    29B      1h      -  held by the operator",
    ]
    found = queue("summary", "--json").objects
    assert [(each["destination"], each["count"], each["held"]) for each in found] == [
        ("example.org", 2, 0),
        ("example.com", 1, 1),
    ]
    assert found[0]["why"] == "mx.example.org could not be reached"
    assert found[1]["next"] is None


def test_looking_changes_nothing(queue: Post, tmp_path: Path) -> None:
    id = queue.put("a@example.org", *[f"user{number}@example.com" for number in range(99)])
    queue.put("b@example.org", message=b"Subject: x\r\n\r\n" + b"x\r\n" * 80_000)
    queue.attempt(id, FULL)
    lease = queue.claim(id, "example.com")
    before = snapshot(tmp_path)
    for json in ([], ["--json"]):
        for arguments in (["list"], ["summary"], ["show", id], ["show", id, "--body"]):
            assert queue(*arguments, *json).status == 0
    assert snapshot(tmp_path) == before
    lease.release(time.time())
