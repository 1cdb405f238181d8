"""The dialogue with the server, which a script plays."""

from __future__ import annotations

import os
import socket

import pytest

from pfsmtp.sendmail import submit as module
from pfsmtp.sendmail.failure import Failure
from pfsmtp.sendmail.submit import Submission, connect, refusal, submit

from .server import Script, ScriptedServer

ALL_EXTENSIONS = (
    "250-out.example.com\n250-PIPELINING\n250-SIZE 1000000\n250-8BITMIME\n250-SMTPUTF8\n"
    "250-DSN\n250-LIMITS RCPTMAX=3 MAILMAX=9\n250 ENHANCEDSTATUSCODES"
)
TAKEN: Script = [
    ("", "220 out.example.com ESMTP"),
    ("EHLO", "250 out.example.com"),
    ("MAIL", "250 2.1.0 Ok"),
    ("RCPT", "250 2.1.5 Ok"),
    ("DATA", "354 Go on"),
    (".", "250 2.0.0 Queued as 4ABC"),
    ("QUIT", "221 Bye"),
]


def message(
    *recipients: str, sender: str = "ann@x.example", data: bytes = b"A: 1\r\n.\r\n"
) -> Submission:
    return Submission(sender, list(recipients or ("bob@y.example",)), data)


def submitted(script: Script, submission: Submission) -> tuple[str, ScriptedServer]:
    server = ScriptedServer(script)
    with server.serving():
        connection = connect(((server.host, server.port),))
        try:
            return submit(connection, submission, verbose=False), server
        finally:
            connection.close()


def failed(script: Script, submission: Submission | None = None) -> Failure:
    with pytest.raises(Failure) as failure:
        submitted(script, submission or message())
    return failure.value


def changed(**replies: str) -> Script:
    """The script above, with other replies, cut after the first that refuses."""
    script = []
    for heard, said in TAKEN:
        said = replies.get({".": "end", "": "greeting"}.get(heard, heard.lower()), said)
        script.append((heard, said))
        if said[:1] not in ("2", "3"):
            break
    return script


def test_a_message_is_handed_over() -> None:
    said, server = submitted(TAKEN, message(data=b"A: 1\r\n\r\ntext\r\n.\r\n"))
    assert said == "250 2.0.0 Queued as 4ABC"
    assert server.heard == [
        b"EHLO localhost",
        b"MAIL FROM:<ann@x.example>",
        b"RCPT TO:<bob@y.example>",
        b"DATA",
        b"QUIT",
    ]
    assert server.data == b"A: 1\r\n\r\ntext\r\n"


def test_extensions_are_used_where_they_are_offered() -> None:
    script = [(heard, said) for heard, said in TAKEN]
    script[1] = ("EHLO", ALL_EXTENSIONS)
    submission = message("j\u00f6rg@y.example", sender="", data="A: \u00e9\r\n.\r\n".encode())
    submission.notify = "SUCCESS,DELAY"
    submission.returning = "HDRS"
    submission.envelope_id = "a=b +\u00e9"
    _, server = submitted(script, submission)
    assert server.heard[1:3] == [
        b"MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+3Db+20+2B+C3+A9",
        "RCPT TO:<j\u00f6rg@y.example> NOTIFY=SUCCESS,DELAY".encode(),
    ]


def test_pipelined_replies_are_told_apart() -> None:
    script = [
        TAKEN[0],
        ("EHLO", ALL_EXTENSIONS),
        ("MAIL", "250 Ok"),
        ("RCPT", "250-Ok\n250 Ok"),
        ("RCPT", "450 4.2.0 Greylisted"),
        ("RCPT", "550 5.1.1 No such user"),
    ]
    failure = failed(script, message("a@x", "b@x", "c@x"))
    assert failure.text == "b@x: 450 4.2.0 Greylisted; c@x: 550 5.1.1 No such user"
    assert failure.status == os.EX_NOUSER


def test_nobody_is_sent_it_when_one_recipient_is_refused() -> None:
    script = [*TAKEN[:4], ("RCPT", "451 4.3.0 Later"), ("QUIT", "221 Bye")]
    server = ScriptedServer(script)
    with server.serving():
        connection = connect(((server.host, server.port),))
        with pytest.raises(Failure) as failure:
            submit(connection, message("a@x", "b@x"), verbose=False)
        connection.close()
    assert failure.value.status == os.EX_TEMPFAIL
    assert b"DATA" not in server.heard


@pytest.mark.parametrize(
    ("where", "reply", "status"),
    [
        ("greeting", "421 4.3.2 Too busy", os.EX_TEMPFAIL),
        ("greeting", "554 5.3.2 No service", os.EX_UNAVAILABLE),
        ("ehlo", "502 5.5.1 What?", os.EX_PROTOCOL),
        ("mail", "452 4.3.1 Disk full", os.EX_TEMPFAIL),
        ("mail", "552 5.3.4 Too large", os.EX_DATAERR),
        ("mail", "550 5.7.1 Not you", os.EX_NOPERM),
        ("rcpt", "550 5.1.1 No such user", os.EX_NOUSER),
        ("rcpt", "550 5.1.2 No such host", os.EX_NOHOST),
        ("rcpt", "550 No such user, in the old style", os.EX_UNAVAILABLE),
        ("rcpt", "450 4.2.1 Later", os.EX_TEMPFAIL),
        ("data", "451 4.3.0 Later", os.EX_TEMPFAIL),
        ("end", "452 4.3.1 Disk full", os.EX_TEMPFAIL),
        ("end", "554-5.6.0 There is\n554 5.6.0 a NUL in it", os.EX_DATAERR),
    ],
)
def test_a_refusal_has_its_exit_status(where: str, reply: str, status: int) -> None:
    failure = failed(changed(**{where: reply}))
    assert failure.status == status
    assert reply.split("\n")[-1] in failure.text


@pytest.mark.parametrize("where", ["greeting", "ehlo", "mail", "rcpt", "data", "end"])
def test_a_server_that_closes_is_tried_again_later(where: str) -> None:
    assert failed(changed(**{where: ""})).status == os.EX_TEMPFAIL


@pytest.mark.parametrize(
    "reply", ["hello", "2", "250-x\nnonsense", "250-" + "x" * 100_000, "\n".join(["250-x"] * 5000)]
)
def test_what_is_no_reply_is_a_protocol_error(reply: str) -> None:
    script = [TAKEN[0], ("EHLO", reply)]
    assert failed(script).status == os.EX_PROTOCOL


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = connect((("127.0.0.1", listener.getsockname()[1]),))
        with pytest.raises(Failure) as failure:
            submit(connection, message(), verbose=False)
        connection.close()
    assert failure.value.status == os.EX_TEMPFAIL


def test_a_refusal_half_way_through_the_message_is_heard() -> None:
    script = [*TAKEN[:4], ("DATA", "354 Go on\n552 5.3.4 That is enough"), ("MAIL", "")]
    failure = failed(script, message(data=b"x" * 50_000_000))
    assert failure.status in (os.EX_DATAERR, os.EX_TEMPFAIL)


def test_recipients_beyond_the_limit_are_refused_before_any_is_named() -> None:
    failure = failed([TAKEN[0], ("EHLO", ALL_EXTENSIONS)], message("a@x", "b@x", "c@x", "d@x"))
    assert failure.status == os.EX_DATAERR
    assert "3 recipients" in failure.text


def test_addresses_beyond_ascii_need_a_server_that_takes_them() -> None:
    failure = failed(TAKEN[:2], message("j\u00f6rg@x"))
    assert failure.status == os.EX_DATAERR


@pytest.mark.parametrize(
    "address",
    ["a@x>\r\nRCPT TO:<evil@x", "a@x\n", "a@x> SIZE=1", "<a@x", "a b@x", "a@x\x00", "a@\u202ex"],
)
def test_an_address_that_would_be_a_command_is_none(address: str) -> None:
    for submission in (message(address), message(sender=address)):
        failure = failed(TAKEN[:2], submission)
        assert failure.status == os.EX_DATAERR
        assert failure.text.isprintable()


def test_the_second_address_is_tried_when_nobody_listens_on_the_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    server = ScriptedServer(TAKEN, family=socket.AF_INET6)
    with server.serving():
        connection = connect((("127.0.0.1", port), (server.host, server.port)))
        assert submit(connection, message(), verbose=False).startswith("250")
        connection.close()


def test_no_server_is_tried_again_later_and_all_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Failure) as failure:
        connect((("127.0.0.1", port), ("::1", port)))
    assert failure.value.status == os.EX_TEMPFAIL
    assert f"127.0.0.1 port {port}" in failure.value.text
    assert f"::1 port {port}" in failure.value.text


def test_verbose_shows_the_dialogue(capsys: pytest.CaptureFixture[str]) -> None:
    server = ScriptedServer(TAKEN)
    with server.serving():
        connection = connect(((server.host, server.port),))
        submit(connection, message(), verbose=True)
        connection.close()
    shown = capsys.readouterr().out.splitlines()
    assert shown[:3] == [
        "<<< 220 out.example.com ESMTP",
        ">>> EHLO localhost",
        "<<< 250 out.example.com",
    ]


def test_an_unexpected_reply_is_a_protocol_error() -> None:
    assert refusal(["354 Go on"], "MAIL").status == os.EX_PROTOCOL
