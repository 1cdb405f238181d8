"""`pfsmtp sendmail` as programs run it, with aiosmtpd for a server."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

import pfsmtp
from pfsmtp.sendmail import command

CHECKOUT = Path(pfsmtp.__file__).parents[1]
USER = pwd.getpwuid(os.getuid()).pw_name
# What takes as long to import as a submission takes.
HEAVY = {"socket", "re", "typing", "enum", "dataclasses", "collections", "email", "argparse"}


class Inbox:
    """An aiosmtpd handler that keeps what it is sent, and refuses `nobody`."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 Nobody lives here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 2.0.0 Ok"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Sendmail:
    """Runs the command with the server's address in its environment."""

    def __init__(self, port: int, inbox: Inbox) -> None:
        self.port = port
        self.inbox = inbox

    def __call__(
        self, *arguments: str, message: bytes = b"A: 1\n\ntext\n", **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "pfsmtp.sendmail.command", *arguments],
            input=message,
            capture_output=True,
            cwd=CHECKOUT,
            env={**os.environ, "PFSMTP_SUBMIT": f"127.0.0.1:{self.port}", **environ},
            timeout=60,
            check=False,
        )

    @property
    def envelope(self) -> Any:
        (envelope,) = self.inbox.envelopes
        return envelope


@pytest.fixture
def sendmail() -> Iterator[Sendmail]:
    inbox = Inbox()
    controller = Controller(inbox, "127.0.0.1", free_port(), enable_SMTPUTF8=True)
    controller.start()
    try:
        yield Sendmail(controller.port, inbox)
    finally:
        controller.stop()


def test_a_message_arrives_as_it_was_given(sendmail: Sendmail) -> None:
    text = b"From: a@b\nTo: c@d\n\n.\n..x\n\xc3\xa9\nlast"
    done = sendmail("-i", "-f", "ann@x.example", "bob@y.example", "carol@z.example", message=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert sendmail.envelope.mail_from == "ann@x.example"
    assert sendmail.envelope.rcpt_tos == ["bob@y.example", "carol@z.example"]
    assert sendmail.envelope.content == text.replace(b"\n", b"\r\n") + b"\r\n"
    assert "BODY=8BITMIME" in sendmail.envelope.mail_options


def test_the_user_is_the_sender_at_the_domain_of_this_machine(sendmail: Sendmail) -> None:
    assert sendmail("-FAnn Smith", "root").returncode == 0
    sender = sendmail.envelope.mail_from
    assert sender.startswith(f"{USER}@")
    assert sendmail.envelope.rcpt_tos == [f"root@{sender.partition('@')[2]}"]
    assert sendmail.envelope.content == (
        f"A: 1\r\nFrom: Ann Smith <{sender}>\r\n\r\ntext\r\n".encode()
    )


def test_the_name_of_the_environment_is_that_of_the_author(sendmail: Sendmail) -> None:
    assert sendmail("bob@y", NAME="Ann, Dr.").returncode == 0
    assert b'\r\nFrom: "Ann, Dr." <' in sendmail.envelope.content


def test_the_null_path_sends_but_does_not_write(sendmail: Sendmail) -> None:
    for null in ("", "<>"):
        assert sendmail("-f", null, "bob@y").returncode == 0
    for envelope in sendmail.inbox.envelopes:
        assert envelope.mail_from == "<>"
        assert f"{USER}@".encode() in (envelope.content or b"")


def test_t_takes_recipients_from_the_header_and_hides_bcc(sendmail: Sendmail) -> None:
    text = b"From: a@b\nTo: Bob <bob@y>, carol@z\nBcc: dave@w, bob@y\n\ntext\n"
    assert sendmail("-t", "-i", "eve@v", message=text).returncode == 0
    assert sendmail.envelope.rcpt_tos == ["eve@v", "bob@y", "carol@z", "dave@w"]
    assert b"dave" not in sendmail.envelope.content


def test_a_dot_ends_the_message_and_what_follows_is_dropped(sendmail: Sendmail) -> None:
    assert sendmail("bob@y", message=b"From: a@b\n\ntext\n.\nnot sent\n").returncode == 0
    assert sendmail.envelope.content == b"From: a@b\r\n\r\ntext\r\n"


def test_a_dot_ends_the_message_while_stdin_is_open(sendmail: Sendmail) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pfsmtp.sendmail.command", "bob@y"],
        stdin=subprocess.PIPE,
        cwd=CHECKOUT,
        env={**os.environ, "PFSMTP_SUBMIT": f"127.0.0.1:{sendmail.port}"},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"hello\n.\n")
        process.stdin.flush()
        assert process.wait(60) == 0
    assert sendmail.envelope.content.endswith(b"\r\n\r\nhello\r\n")


def test_addresses_beyond_ascii_are_sent(sendmail: Sendmail) -> None:
    assert sendmail("-f", "ann@x", "j\u00f6rg@b\u00fccher.example").returncode == 0
    assert sendmail.envelope.rcpt_tos == ["j\u00f6rg@b\u00fccher.example"]


def test_a_refused_recipient_is_told_and_nobody_is_sent_it(sendmail: Sendmail) -> None:
    done = sendmail("bob@y", "nobody@y")
    assert done.returncode == os.EX_NOUSER
    assert done.stderr == b"sendmail: nobody@y: 550 5.1.1 Nobody lives here\n"
    assert sendmail.inbox.envelopes == []


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ((), os.EX_USAGE, b"no recipients"),
        (("-y",), os.EX_USAGE, b"-y is not an option; usage: sendmail"),
        (("-t",), os.EX_DATAERR, b"the header has no recipients"),
        (("-C", "/none.toml", "bob@y"), os.EX_CONFIG, b"/none.toml"),
        (("-bp", "-C"), os.EX_USAGE, b"-C needs a value"),
    ],
)
def test_what_cannot_be_done_is_told(
    sendmail: Sendmail, arguments: tuple[str, ...], status: int, told: bytes
) -> None:
    done = sendmail(*arguments)
    assert done.returncode == status
    assert told in done.stderr
    assert sendmail.inbox.envelopes == []


def test_no_server_is_tried_again_later() -> None:
    done = Sendmail(free_port(), Inbox())("bob@y")
    assert done.returncode == os.EX_TEMPFAIL
    assert b"the mail server cannot be reached (127.0.0.1 port" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_closed_stdin_is_no_empty_message() -> None:
    done = subprocess.run(
        f"exec {sys.executable} -m pfsmtp.sendmail.command bob@y <&-",
        shell=True,
        cwd=CHECKOUT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == os.EX_IOERR
    assert b"stdin cannot be read" in done.stderr


def test_verbose_shows_the_dialogue(sendmail: Sendmail) -> None:
    done = sendmail("-v", "bob@y")
    assert b">>> RCPT TO:<bob@y>\n<<< 250 2.1.5 Ok\n" in done.stdout


def test_bs_carries_a_dialogue(sendmail: Sendmail) -> None:
    dialogue = b"EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nA: 1\r\n.\r\nQUIT\r\n"
    done = sendmail("-bs", message=dialogue)
    assert done.returncode == 0
    assert done.stdout.startswith(b"220 ")
    assert done.stdout.endswith(b"221 Bye\r\n")
    assert sendmail.envelope.content == b"A: 1\r\n"


def test_bs_ends_with_its_stdin(sendmail: Sendmail) -> None:
    done = sendmail("-bs", message=b"NOOP\r\n")
    assert done.returncode == 0
    assert done.stdout.startswith(b"220 ")


def test_bs_without_a_server_says_so_in_smtp() -> None:
    done = Sendmail(free_port(), Inbox())("-bs", message=b"QUIT\r\n")
    assert done.returncode == os.EX_TEMPFAIL
    assert done.stdout.startswith(b"421 4.3.2 ")


def test_newaliases_has_nothing_to_do() -> None:
    assert command.main(["newaliases"]) == command.main(["sendmail", "-bi"]) == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["sendmail", "-bp", "-C", "out.toml"], ["list"]),
        (["/usr/bin/mailq", "-Cout.toml"], ["list"]),
        (["sendmail", "-Cout.toml", "-q"], ["retry", "--all"]),
        (["sendmail", "-Cout.toml", "-q30m"], ["retry", "--all"]),
        (["sendmail", "-Cout.toml", "-qRexample.org"], ["retry", "--destination", "example.org"]),
        (["sendmail", "-Cout.toml", "-qI4ABC"], ["retry", "4ABC"]),
    ],
)
def test_what_concerns_the_queue_is_done_by_pfsmtp(
    argv: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execvp", lambda program, argv: executed.append((program, argv)))
    command.main(argv)
    ((program, arguments),) = executed
    assert Path(program).name == "pfsmtp"
    assert arguments == ["pfsmtp", "-c", "out.toml", "queue", *words]


def test_a_missing_pfsmtp_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    assert command.main(["sendmail", "-bp", "-C", "out.toml"]) == os.EX_OSFILE
    assert "pfsmtp: No such file" in capsys.readouterr().err


def test_nothing_slow_is_imported() -> None:
    show = "import sys; before = set(sys.modules); import pfsmtp.sendmail.command\n"
    show += "print(*set(sys.modules) - before)"
    # -S: without what the site's own packages import at every start.
    imported = subprocess.run(
        [sys.executable, "-S", "-c", show], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not HEAVY & set(imported)
    ours = {name for name in imported if name.startswith("pfsmtp")}
    assert all(name == "pfsmtp" or name.startswith("pfsmtp.sendmail") for name in ours)
