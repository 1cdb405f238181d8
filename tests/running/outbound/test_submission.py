"""Mail of all kinds of programs arrives in our own Maildirs octet for octet, but for line ends.

Before it stand the trace fields of both servers, Date and Message-ID where it had none, and an
empty line where it began with its text. Lines of more than 998 octets are another matter: nobody
relays these, they are re-encoded.
"""

from __future__ import annotations

import os
import re
import smtplib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest

from tests import needs
from tests.corpus import Sample, debian, dots, headers, mime, octets, taken
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import sendmail, submit, transact, views
from tests.running.program import PATIENCE, ROOT, Program, eventually

LONGEST = 998
"""Octets of a line that everybody relays (RFC 5321 §4.5.3.1.6)."""

_RECEIVED = rb"Received: [^\n]*\n(?:\t[^\n]*\n)+"
_BEFORE = re.compile(
    rb"Return-Path: [^\n]*\nDelivered-To: [^\n]*\n%b%b" % (_RECEIVED, _RECEIVED)
    + rb"(?:Date: [^\n]*\n)?(?:Message-ID: <[^\n]*>\n)?\n?\Z"
)
_WHOLE = re.compile(rb"(?:[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)+\r\n")
_FROM = re.compile(rb"^From[ \t]*:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Road:
    """From a program to a Maildir. Every message has an address of its own: user1, user2 …"""

    outbound: Program
    inbound: Program

    def arrived(self, count: int) -> dict[str, bytes]:
        """Wait for so many messages, and take them, by the local-part of their recipient."""
        new = self.inbound.maildir("rest") / "new"
        eventually(lambda: new.exists() and len(os.listdir(new)) >= count, what="all messages")
        messages = {}
        for path in new.iterdir():
            message = path.read_bytes()
            found = re.search(rb"^Delivered-To: ([^@\n]*)@", message, re.MULTILINE)
            assert found is not None, message[:1000]
            messages[found[1].decode("ascii")] = message
            path.unlink()
        assert len(messages) == count
        return messages


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    directory = tmp_path_factory.mktemp("submission")
    internet = Internet()
    address = internet.address()
    domain = internet.domain("here", address)
    inbound = Program.inbound(directory / "in")
    (inbound.directory / "users").write_text(f"rest : @{domain}\n")
    inbound.reconfigure(listen={"smtp": [f"{address}:{internet.port}"], "smtps": []})
    with inbound, internet.name_server(directory) as names:
        server = outbound(directory / "out", internet, names)
        with server:
            yield Road(server, inbound)
            assert views(server) == []
            assert server.events("deferred") == server.events("failed") == []
    assert "Traceback" not in server.log_text() + inbound.log_text()


def longest_line(message: bytes) -> int:
    return max(map(len, message.split(b"\r\n")))


def assert_same(samples: Iterable[Sample], arrived: dict[str, bytes]) -> None:
    """See that each sample is there, octet for octet, behind the fields of both servers."""
    differ = []
    for number, (name, message) in enumerate(samples):
        stored = arrived[f"user{number}"]
        sent = message.replace(b"\r\n", b"\n")
        before = stored[: len(stored) - len(sent)]
        if not stored.endswith(sent) or not _BEFORE.match(before):
            differ.append(name)
    assert differ == []


def test_smtplib_and_the_whole_corpus(road: Road) -> None:
    samples = [(name, each) for name, each in taken() if longest_line(each) <= LONGEST and each]
    with smtplib.SMTP("127.0.0.1", road.outbound.port, timeout=PATIENCE) as client:
        client.ehlo("client.example.org")
        for number, (_, message) in enumerate(samples):
            transact(client, f"user{number}@here.test", message=message)
    assert len(samples) > 100
    assert_same(samples, road.arrived(len(samples)))


def test_sendmail_and_what_has_a_header(road: Road) -> None:
    """Whatever is no whole message is made one, so it is left out here."""
    samples = [
        (name, each)
        for name, each in (*dots(), *octets(), *headers(), *mime(), *debian())
        if (header := _WHOLE.match(each))
        and _FROM.search(header[0])
        and longest_line(each) <= LONGEST
    ]

    def send(number: int) -> None:
        message = samples[number][1].replace(b"\r\n", b"\n")
        done = sendmail(road.outbound, "-i", f"user{number}@here.test", octets=message)
        assert (done.returncode, done.stderr) == (0, b"")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(len(samples))))
    assert len(samples) > 50
    assert_same(samples, road.arrived(len(samples)))


TEXTS = [
    ("dots", b".\n..\n.a\n...\n"),
    ("UTF-8", "Gr\u00fc\u00dfe \u65e5\u672c\u8a9e\n".encode()),
    ("From lines", b"From here\n>From there\n\nFrom\n"),
    ("white space", b" a \t \n\t\n \n"),
    ("tildes", b"~q\n~.\n~~\n"),
    ("lines", b"".join(n * b"x" + b"\n" for n in range(LONGEST))),
]


def test_mail_of_a_person(road: Road, tmp_path: Path) -> None:
    """mail(1), with our sendmail as its own."""
    program = needs.tool("mail", package="bsd-mailx")
    script = tmp_path / "sendmail"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m pfsmtp.sendmail.command "$@"\n')
    script.chmod(0o755)
    startup = tmp_path / "mailrc"
    startup.write_text(f"set sendmail={script}\n")
    server = f"127.0.0.1:{road.outbound.port}"
    environment = {"MAILRC": str(startup), "PFSMTP_SUBMIT": server, "PYTHONPATH": str(ROOT)}
    for number, (name, text) in enumerate(TEXTS):
        subprocess.run(
            [program, "-s", name, f"user{number}@here.test"],
            input=text,
            check=True,
            env=environment | {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "USER": "ann"},
            timeout=PATIENCE,
        )
    arrived = road.arrived(len(TEXTS))
    for number, (name, text) in enumerate(TEXTS):
        header, _, body = arrived[f"user{number}"].partition(b"\n\n")
        assert body == text, name
        assert message_from_bytes(header)["Subject"] == name


@pytest.mark.parametrize("length", [999, 4096, 65_536])
def test_lines_that_nobody_relays_say_the_same(length: int, road: Road) -> None:
    text = length * b"." + b"\r\nFrom here\r\n"
    submit(road.outbound, "user0@here.test", message=b"Subject: long\r\n\r\n" + text)
    arrived = road.arrived(1)["user0"]
    assert max(map(len, arrived.split(b"\n"))) <= LONGEST
    decoded = message_from_bytes(arrived).get_payload(decode=True)
    assert decoded == text.replace(b"\r\n", b"\n")


def test_message_that_goes_in_circles_is_refused(road: Road) -> None:
    hop = b"Received: from a.example by b.example; Tue, 24 Nov 2026 03:50:00 +0000\r\n"
    with smtplib.SMTP("127.0.0.1", road.outbound.port, timeout=PATIENCE) as client:
        client.ehlo("client.example.org")
        client.mail("sender@home.test")
        client.rcpt("user0@here.test")
        code, said = client.data(51 * hop + b"Subject: round\r\n\r\nHello\r\n")
    assert (code, said[:5]) == (554, b"5.4.6")
