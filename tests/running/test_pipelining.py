"""Groups of commands, and BDAT, with what is hostile in them (RFC 2920, RFC 3030)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running.measure import MIB, pss
from tests.running.program import Program, Talk

LOOKS_LIKE_COMMANDS = (
    b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
)
GROUP = 250
"""Times that some commands are said in one piece."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Held to this: no worker has died of what was done to it, nothing was a bug."""
    patient = {"idle_commands": 10_000_000}
    with Program.inbound(tmp_path_factory.mktemp("pipelining"), limits=patient) as server:
        workers = server.workers()
        yield server
        assert server.workers() == workers
        assert server.events("connection-bug") == []


@pytest.fixture(params=["clear", "tls"])
def client(server: Program, request: pytest.FixtureRequest) -> Iterator[Talk]:
    """Greeted, and has said EHLO."""
    tls = request.param == "tls"
    with Talk(server.smtps_port if tls else server.port) as client:
        if tls:
            client.secure()
        client.greet()
        yield client
    assert server.take("bob") == []
    assert server.leftovers() == []


def answers(client: Talk, count: int) -> list[str]:
    return [client.hear()[:9] for _ in range(count)]


def envelope(client: Talk) -> None:
    assert client.say("MAIL FROM:<sender@example.net>").startswith("250")
    assert client.say("RCPT TO:<alice@example.org>").startswith("250")


def stored(server: Program) -> list[bytes]:
    """The texts of what alice has got."""
    return [message.partition(b"\n\n")[2] for message in server.take("alice")]


def leave(server: Program, client: Talk) -> None:
    """Break the connection off, and wait until the server has done with it."""
    before = len(server.events("connection"))
    client.close()
    server.await_event("connection", count=before + 1)


# -- groups of commands


@pytest.mark.parametrize(
    ("begun", "replies"),
    [
        ("", ["503 5.5.1"]),
        ("MAIL FROM:<bad\r\n", ["501 5.1.7", "503 5.5.1"]),
        ("MAIL FROM:<>\r\n", ["250 2.1.0", "554 5.5.1"]),
        (
            "MAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\n",
            ["250 2.1.0", "550 5.1.1", "554 5.5.1"],
        ),
    ],
    ids=["nothing before it", "MAIL refused", "no RCPT", "RCPT refused"],
)
def test_rfc2920_3_1_message_behind_a_refused_data_is_never_run(
    server: Program, client: Talk, begun: str, replies: list[str]
) -> None:
    client.send(f"{begun}DATA\r\n".encode() + LOOKS_LIKE_COMMANDS)
    assert answers(client, len(replies) - 1) == replies[:-1]
    assert client.hear().startswith("554 5.5.1 The message came before")
    assert client.closed()
    assert server.files("alice") == []


def test_message_that_comes_after_the_refusal_is_not_run_either(
    server: Program, client: Talk
) -> None:
    assert client.say("DATA").startswith("503")
    assert client.say("Subject: it was on its way").startswith("554 5.5.1")
    assert client.closed()


def test_rfc2920_3_2_group_gets_one_reply_a_command_in_order(client: Talk) -> None:
    replies = {
        "NOOP": "250 2.0.0",
        "MAIL FROM:<sender@example.net>": "250 2.1.0",
        "RCPT TO:<alice@example.org>": "250 2.1.5",
        "HELO again": "250 mx.ex",
    }
    client.send("".join(f"{command}\r\n" for command in replies).encode() * GROUP)
    assert answers(client, GROUP * len(replies)) == list(replies.values()) * GROUP


def test_rfc2920_3_1_transaction_in_one_group_with_some_recipients_refused(
    server: Program, client: Talk
) -> None:
    client.send(
        b"MAIL FROM:<sender@example.net>\r\nRCPT TO:<nobody@example.org>\r\n"
        b"RCPT TO:<alice@example.org>\r\nRCPT TO:<@>\r\nDATA\r\n"
    )
    assert answers(client, 5) == ["250 2.1.0", "550 5.1.1", "250 2.1.5", "501 5.1.3", "354 Send "]
    assert client.say("Subject: a\r\n\r\nb\r\n.").startswith("250")
    assert stored(server) == [b"b\n"]


def answered_noops(server: Program, count: int) -> None:
    """Whoever does not read the answers is in `test_limits`."""
    group = 10_000
    with Talk(server.port) as client:
        client.greet()
        before = max(map(pss, server.workers()))
        for _ in range(count // group):
            client.send(group * b"NOOP\r\n")
            due = group * len(b"250 2.0.0 OK\r\n")
            while due:
                due -= len(client.socket.recv(due))
        assert max(map(pss, server.workers())) - before < 8 * MIB
        assert client.say("QUIT").startswith("221")


def test_noops_without_end_are_answered_one_by_one_in_bounded_memory(server: Program) -> None:
    answered_noops(server, 20_000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_million_noops_are_answered_one_by_one_in_bounded_memory(server: Program) -> None:
    answered_noops(server, 1_000_000)


# -- BDAT


def bdat(octets: bytes, last: str = "") -> bytes:
    return f"BDAT {len(octets)}{last}\r\n".encode() + octets


def test_rfc3030_2_chunk_that_looks_like_commands_is_data(server: Program, client: Talk) -> None:
    envelope(client)
    client.send(bdat(b"Subject: a\r\n\r\n") + bdat(b".\r\n" + LOOKS_LIKE_COMMANDS, " LAST"))
    assert answers(client, 2) == ["250 2.0.0"] * 2
    assert client.say("NOOP").startswith("250")
    assert stored(server) == [(b".\r\n" + LOOKS_LIKE_COMMANDS).replace(b"\r\n", b"\n")]


def test_rfc3030_2_chunk_that_is_refused_is_eaten_all_the_same(
    server: Program, client: Talk
) -> None:
    client.send(bdat(LOOKS_LIKE_COMMANDS) + b"MAIL FROM:<sender@example.net>\r\n")
    assert answers(client, 2) == ["503 5.5.1", "250 2.1.0"]
    client.send(bdat(LOOKS_LIKE_COMMANDS, " LAST") + b"NOOP\r\n")
    assert answers(client, 2) == ["554 5.5.1", "250 2.0.0"]
    assert server.files("alice") == []


@pytest.mark.parametrize(
    "size",
    ["-1", "-0", "+1", "1e3", "0x10", "9" * 19, "9" * 300, "1 FIRST", "1 LAST LAST", "", "٣"],
    ids=lambda size: size[:20] or "none",
)
def test_size_that_is_none_ends_the_session(server: Program, client: Talk, size: str) -> None:
    """What follows cannot be told from commands."""
    envelope(client)
    client.send(f"BDAT {size}\r\n".encode() + LOOKS_LIKE_COMMANDS)
    assert client.hear().startswith("501 5.5")
    assert client.closed()
    assert server.files("alice") == []


def test_chunk_of_the_largest_size_takes_no_memory_and_ends_with_the_client(
    server: Program, client: Talk
) -> None:
    envelope(client)
    before = max(map(pss, server.workers()))
    client.send(b"BDAT 999999999999999999 LAST\r\n" + 1000 * LOOKS_LIKE_COMMANDS)
    assert max(map(pss, server.workers())) - before < 8 * MIB
    leave(server, client)
    assert server.files("alice") == []


def test_chunks_over_the_size_limit_are_refused_and_the_rest_of_them_is_eaten(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    limits = {"message_size": "64 KiB"}
    directory = tmp_path_factory.mktemp("small")
    with Program.inbound(directory, limits=limits) as server, Talk(server.port) as client:
        client.greet()
        envelope(client)
        client.send(bdat(2000 * LOOKS_LIKE_COMMANDS) + bdat(LOOKS_LIKE_COMMANDS, " LAST"))
        assert answers(client, 2) == ["552 5.3.4", "503 5.5.1"]
        assert client.say("NOOP").startswith("250")
        assert server.files("alice") == server.leftovers() == []


def test_rfc3030_3_data_after_bdat_is_out_of_order(server: Program, client: Talk) -> None:
    envelope(client)
    client.send(bdat(b"Subject: a\r\n\r\n"))
    assert client.hear().startswith("250")
    assert client.say("DATA").startswith("503 5.5.1")
    client.send(bdat(b"b\r\n", " LAST"))
    assert client.hear().startswith("250")
    assert stored(server) == [b"b\n"]


def test_rfc3030_2_rset_between_chunks_leaves_nothing(server: Program, client: Talk) -> None:
    envelope(client)
    client.send(bdat(100_000 * b"Subject: a\r\n") + b"RSET\r\n" + bdat(b"x", " LAST"))
    assert answers(client, 3) == ["250 2.0.0", "250 2.0.0", "503 5.5.1"]
    assert server.files("alice") == server.leftovers() == []


def test_rfc3030_2_last_chunk_may_be_empty(server: Program, client: Talk) -> None:
    envelope(client)
    client.send(bdat(b"Subject: a\r\n\r\nb\r\n") + bdat(b"", " LAST"))
    assert answers(client, 2) == ["250 2.0.0"] * 2
    assert stored(server) == [b"b\n"]


@pytest.mark.parametrize("octets", [b"a\rb", b"a\nb", b"\0", b"\r\n.\r", b"\n"], ids=repr)
def test_bare_line_ends_and_nul_are_refused_in_chunks_too(
    server: Program, client: Talk, octets: bytes
) -> None:
    envelope(client)
    client.send(bdat(b"Subject: a\r\n\r\n" + octets) + bdat(b"x\r\n", " LAST"))
    codes = answers(client, 2)
    assert codes == ["250 2.0.0", "554 5.6.0"]
    assert client.say("NOOP").startswith("250")
    assert server.files("alice") == []


def test_chunk_that_the_client_breaks_off_leaves_nothing(server: Program, client: Talk) -> None:
    envelope(client)
    client.send(bdat(b"Subject: a\r\n\r\n") + b"BDAT 100 LAST\r\nhalf")
    assert client.hear().startswith("250")
    leave(server, client)
    assert server.files("alice") == []
