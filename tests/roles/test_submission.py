"""What programs hand over at the socket, and what somebody hostile could."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pfsmtp.config import Limits, Octets
from pfsmtp.log import Log
from pfsmtp.roles.submission import Submission, Submissions
from pfsmtp.sendmail import request
from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.reply import After, Reply
from pfsmtp.smtp.session import Server
from pfsmtp.smtp.status import Status
from tests.smtp.fakes import FakeAccess, FakeIntake, FakeStore

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
USER = ("ann", "Ann Smith,,,", "", "")
MESSAGE = b"From: a@b\nSubject: x\n\n.\ntext\n"
DEADLINE = 20.0


class Socket:
    """Serves one submission at a time, each in a thread, as a receiver does."""

    def __init__(self, log: Path) -> None:
        self.store = FakeStore(line_end=b"\r\n")
        self.patience = DEADLINE
        self.limits = Limits()
        self.accepted = 0
        self._log = log

    def submissions(self) -> Submissions:
        log = Log(self._log, "json")
        server = Server(
            "mx.example.org", self.limits, FakeAccess(), self.store, log, lambda: 0.0, tls=False
        )
        return Submissions(server, domain="example.org", patience=self.patience)

    def connect(self) -> Client:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        submission = self.submissions().accept(theirs.detach(), Log(self._log, "json"))
        return Client(self, ours, submission)

    def submit(self, *arguments: str, octets: bytes = MESSAGE, **more: Any) -> bytes:
        """Do as the front does, and return the answer."""
        strings = strings_of(*USER, "sendmail", *arguments)
        with self.connect() as client:
            return client.ask(memory_file(strings + octets), len(strings), **more)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == name]


class Client:
    """The other end of a connection that is being served."""

    def __init__(self, subject: Socket, connection: socket.socket, submission: Submission) -> None:
        self.socket = connection
        self.socket.settimeout(DEADLINE)
        self._subject = subject
        self._submission = submission
        self._thread = threading.Thread(target=submission.serve)
        self._thread.start()

    def ask(self, file: int, length: int, *, version: int = request.VERSION) -> bytes:
        """Send a request, whose file is closed here, and return the answer."""
        packet = request.PACKET.pack(version, length)
        socket.send_fds(self.socket, [packet], [file])
        os.close(file)
        return self.socket.recv(100_000)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        self._subject.accepted += self._submission.accepted


def strings_of(*strings: str) -> bytes:
    return b"".join(string.encode() + b"\0" for string in strings)


def memory_file(octets: bytes, *, seals: int = SEALS, size: int | None = None) -> int:
    file = os.memfd_create("mail", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(file, octets)
    if size is not None:
        os.truncate(file, size)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Socket]:
    """At the end of each test as many descriptors are open as before."""
    before = len(os.listdir("/proc/self/fd"))
    subject = Socket(tmp_path / "log")
    yield subject
    assert subject.store.open == 0
    # Logs are closed when they are forgotten.
    assert len(os.listdir("/proc/self/fd")) - before <= 4
    assert subject.events("submission-bug") == []


# -- messages


def test_a_message_is_taken_as_it_is_by_smtp(subject: Socket) -> None:
    assert subject.submit("-i", "-f", "carol@x", "alice@example.org", "bob") == b"\0"
    (stored,) = subject.store.messages
    assert stored.octets == MESSAGE.replace(b"\n", b"\r\n")
    assert str(stored.envelope.reverse_path) == "carol@x"
    recipients = [str(recipient.mailbox) for recipient in stored.envelope.recipients]
    assert recipients == ["alice@example.org", "bob@example.org"]
    assert (stored.origin.client, stored.origin.protocol) == ("127.0.0.1", "ESMTP")
    assert subject.accepted == 1


def test_who_sends_it_is_logged_as_the_kernel_says(subject: Socket) -> None:
    subject.submit("alice")
    (event,) = subject.events("message-accepted")
    assert (event["user"], event["process"]) == (os.getuid(), os.getpid())
    assert event["sender"] == "ann@example.org"


def test_the_user_writes_where_nobody_else_is_named(subject: Socket) -> None:
    assert subject.submit("alice", octets=b"text\n") == b"\0"
    (stored,) = subject.store.messages
    assert stored.octets == b"From: Ann Smith <ann@example.org>\r\n\r\ntext\r\n"


def test_a_user_without_a_name_is_the_one_the_kernel_says(subject: Socket) -> None:
    strings = strings_of("", "", "", "", "sendmail", "alice")
    with subject.connect() as client:
        assert client.ask(memory_file(strings + b"text\n"), len(strings)) == b"\0"
    (stored,) = subject.store.messages
    assert str(stored.envelope.reverse_path) == f"uid{os.getuid()}@example.org"


def test_the_largest_message_is_taken_in_one_piece(subject: Socket) -> None:
    text = MESSAGE + b"." * 62 + b"\n"
    text += (b"." * 63 + b"\n") * ((request.LONGEST_MESSAGE - len(text)) // 64)
    assert subject.submit("-i", "alice", octets=text) == b"\0"
    (stored,) = subject.store.messages
    assert stored.octets == text.replace(b"\n", b"\r\n")


def test_what_is_larger_is_left_to_the_front(subject: Socket) -> None:
    text = MESSAGE + b"x" * request.LONGEST_MESSAGE
    assert subject.submit("alice", octets=text) == request.ELSEWHERE
    assert subject.store.messages == []
    (event,) = subject.events("submission-declined")
    assert event["user"] == os.getuid()


# -- refusals


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["nosuch"], os.EX_NOUSER, b"sendmail: nosuch@example.org: 550 5.1.1 No such user\n"),
        (["-f", "nobody@x", "alice"], os.EX_NOPERM, b"sendmail: nobody@x: 550 5.7.1 Not from you"),
        (["-N", "always", "alice"], os.EX_USAGE, b"sendmail: -N always: say never"),
        (["-t"], os.EX_DATAERR, b"sendmail: the header has no recipients\n"),
        (["a>b@x"], os.EX_DATAERR, b"sendmail: 'a>b@x' is not an address\n"),
    ],
)
def test_a_refusal_is_told_with_its_status(
    subject: Socket, arguments: list[str], status: int, told: bytes
) -> None:
    answer = subject.submit(*arguments)
    assert answer[0] == status
    assert answer[1:].startswith(told)
    assert subject.store.messages == []
    (event,) = subject.events("submission-refused")
    assert event["status"] == status


def test_a_failure_of_the_disk_is_to_be_tried_again(subject: Socket) -> None:
    subject.store.commit_fails = DeliveryFailure(Status(4, 3, 1), "The disk is full")
    answer = subject.submit("alice")
    assert answer[0] == os.EX_TEMPFAIL
    assert b"452 4.3.1 The disk is full" in answer
    subject.store.commit_fails = None
    assert subject.submit("alice") == b"\0"


def test_the_limits_of_the_server_hold(subject: Socket) -> None:
    subject.limits = Limits(message_size=Octets.parse("100 B"))
    answer = subject.submit("alice", octets=MESSAGE + b"x" * 100)
    assert (answer[0], answer[1:].count(b"552 5.3.4")) == (os.EX_DATAERR, 1)


def test_a_session_that_is_cut_off_for_its_errors_ends(subject: Socket) -> None:
    answer = subject.submit(*(f"nosuch{number}" for number in range(100)))
    assert answer[0] in (os.EX_NOUSER, os.EX_TEMPFAIL)
    assert subject.store.messages == []


def test_an_answer_is_never_longer_than_the_front_reads(subject: Socket) -> None:
    subject.limits = Limits(errors_close=100_000)
    answer = subject.submit(*("x" * 200 + str(number) for number in range(500)))
    assert answer[0] == os.EX_NOUSER
    assert 30_000 < len(answer) < 64 * 1024


@pytest.mark.parametrize("where", [(FakeStore, "begin"), (FakeIntake, "write")])
def test_a_bug_is_logged_and_the_message_to_be_tried_again(
    subject: Socket, where: tuple[type, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(*where, fail)
    answer = subject.submit("alice")
    assert answer[0] == os.EX_TEMPFAIL
    (event,) = subject.events("submission-bug")
    assert event["error"] == "ZeroDivisionError"
    subject._log.unlink()


def test_who_cannot_be_served_is_to_try_again(subject: Socket) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        subject.submissions().turn_away(theirs.detach(), Reply(421, "Full", (3, 2), After.CLOSE))
        assert ours.recv(1000) == bytes([os.EX_TEMPFAIL]) + b"sendmail: the mail server: Full\n"
        assert ours.recv(1000) == b""


# -- somebody hostile


def declined(subject: Socket, file: int, length: int, **more: Any) -> bool:
    with subject.connect() as client:
        answer = client.ask(file, length, **more)
    assert subject.store.messages == []
    assert len(subject.events("submission-declined")) == 1
    return answer == request.ELSEWHERE


GOOD = strings_of(*USER, "sendmail", "alice")


@pytest.mark.parametrize(
    "seals",
    [0, *(SEALS & ~seal for seal in (fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE))],
)
def test_a_file_that_may_change_is_declined(subject: Socket, seals: int) -> None:
    assert declined(subject, memory_file(GOOD + MESSAGE, seals=seals), len(GOOD))


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/exe", "/"])
def test_what_is_no_file_in_memory_is_declined(subject: Socket, path: str) -> None:
    assert declined(subject, os.open(path, os.O_RDONLY), 0)


def test_a_pipe_that_never_says_anything_is_declined(subject: Socket) -> None:
    reader, writer = os.pipe()
    assert declined(subject, reader, 100)
    os.close(writer)


@pytest.mark.parametrize("size", [2 << 20, 1 << 40])
def test_a_file_that_is_too_large_is_declined_unread(subject: Socket, size: int) -> None:
    assert declined(subject, memory_file(GOOD, size=size), len(GOOD))


@pytest.mark.parametrize(
    ("octets", "length"),
    [
        (GOOD, len(GOOD) + 1),
        (GOOD, 0xFFFFFFFF),
        (GOOD, 0),
        (GOOD, len(GOOD) - 1),
        (strings_of(*USER), len(strings_of(*USER))),
        (b"", 0),
        (b"\0" * (request.LONGEST_STRINGS + 1), request.LONGEST_STRINGS + 1),
    ],
    ids=["beyond its end", "far beyond", "none", "torn", "no command", "empty", "too long"],
)
def test_strings_that_are_not_those_of_a_request_are_declined(
    subject: Socket, octets: bytes, length: int
) -> None:
    assert declined(subject, memory_file(octets), length)


def test_another_version_is_declined(subject: Socket) -> None:
    assert declined(subject, memory_file(GOOD + MESSAGE), len(GOOD), version=2)


@pytest.mark.parametrize("option", ["-bs", "-bp", "-q", "-v", "-Cfile", "-I"])
def test_what_takes_a_terminal_or_files_is_declined(subject: Socket, option: str) -> None:
    strings = strings_of(*USER, "sendmail", option, "alice")
    assert declined(subject, memory_file(strings + MESSAGE), len(strings))


@pytest.mark.parametrize("packet", [b"x", b"EHLO me\r\n", b"\0" * 100_000])
def test_packets_without_a_file_are_declined(subject: Socket, packet: bytes) -> None:
    with subject.connect() as client:
        client.socket.send(packet)
        assert client.socket.recv(100) == request.ELSEWHERE


def test_of_many_files_those_too_many_are_closed(subject: Socket) -> None:
    with subject.connect() as client:
        file = memory_file(GOOD + MESSAGE)
        packet = struct.pack("=II", request.VERSION, len(GOOD))
        socket.send_fds(client.socket, [packet], [file] * 200)
        os.close(file)
        assert client.socket.recv(100) == b"\0"


def test_nothing_is_trusted_that_the_strings_hold(subject: Socket) -> None:
    strings = strings_of("ann>\r\nRCPT TO:<bob@example.org", "", "", "", "sendmail", "alice")
    with subject.connect() as client:
        answer = client.ask(memory_file(strings + MESSAGE), len(strings))
    assert answer[0] == os.EX_DATAERR
    assert subject.store.messages == []


def test_who_is_silent_is_dropped(subject: Socket) -> None:
    subject.patience = 0.05
    with subject.connect() as client:
        assert client.socket.recv(100) == b""
    (event,) = subject.events("submission-lost")
    assert event["reason"] == "timed out"


def test_who_leaves_without_a_request_is_forgotten(subject: Socket) -> None:
    with subject.connect():
        pass
    (event,) = subject.events("submission-lost")
    assert event["reason"] == "it went without a request"


def test_who_leaves_without_the_answer_has_sent_the_message(subject: Socket) -> None:
    with subject.connect() as client:
        file = memory_file(GOOD + MESSAGE)
        socket.send_fds(client.socket, [request.PACKET.pack(request.VERSION, len(GOOD))], [file])
        os.close(file)
    assert len(subject.store.messages) == 1
    assert subject.accepted == 1
    for event in subject.events("submission-lost"):
        assert event["reason"] == os.strerror(errno.EPIPE)
