"""Hostile addresses and lines, and owners of Maildirs: nothing outside is ever touched."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path
from unicodedata import category

import pytest

from tests.running.program import NOBODY, USERS, Program, Talk, eventually, open_to_nobody

ADDRESSES = [
    # (what is said in RCPT, the reply, who gets the message)
    ("<../../etc/passwd@example.org>", "501", None),
    ("<..@example.org>", "501", None),
    ("<.hidden@example.org>", "501", None),
    ("<a/b@example.org>", "550", None),
    ("<a/b@catch.example>", "250", "rest"),
    ('<"../x"@example.org>', "550", None),
    ('<"../x"@catch.example>', "250", "rest"),
    ('<"../../etc/passwd"@catch.example>', "250", "rest"),
    ('<"a b"@catch.example>', "250", "rest"),
    ('<"a\\"b"@catch.example>', "250", "rest"),
    ('<""@catch.example>', "501", None),
    ("<a%00b@catch.example>", "250", "rest"),
    ("<-rf@catch.example>", "250", "rest"),
    ("<|id@catch.example>", "250", "rest"),
    ("<;id;@catch.example>", "501", None),
    ("<${run{id}}@catch.example>", "250", "rest"),
    ("<ALICE@EXAMPLE.ORG>", "250", "alice"),
    ("<alice@example.org.>", "501", None),
    ("<alice@[127.0.0.1]>", "250", "alice"),
    ("<alice@[IPv6:::1]>", "550", None),
    ("<alice@[IPv6:::g]>", "501", None),
    ("<alice@[999.0.0.1]>", "501", None),
    ("<@a.example,@b.example:alice@example.org>", "250", "alice"),
    ("<alice@example.org@elsewhere.example>", "501", None),
    ("<alice%elsewhere.example@example.org>", "550", None),
    ("<elsewhere.example!alice@example.org>", "550", None),
    ("<Postmaster>", "250", "postmaster"),
    ("<POSTMASTER@example.org>", "250", "postmaster"),
    (f"<{'a' * 65}@catch.example>", "501", None),
    (f"<a@{'a.' * 127}aa>", "501", None),
    ("<alice@xn--\u00ff.example>", "553", None),
    ("<alice@xn--a.example>", "550", None),
    ("<alice@-.example>", "501", None),
    ("<rene\u0301@example.org>", "553", None),
    ("<>", "501", None),
    ("alice@example.org", "501", None),
    ("<alice@example.org", "501", None),
    ("<alice@example.org>\0", "501", None),
    ("<ali\0ce@example.org>", "501", None),
    ("<ali\rce@example.org>", "501", None),
    ("<alice@example.org> ORCPT=rfc822;a+0D+0Ab", "555", None),
]

SENDERS = [
    ("<>", "250"),
    ("<alice@example.net> SIZE=", "501"),
    ("<alice@example.net> SIZE=-1", "501"),
    ("<alice@example.net> SIZE=99999999999999999999", "552"),
    ("<alice@example.net> SIZE=999999999999999999999", "501"),
    ("<alice@example.net> SIZE=1 SIZE=1", "501"),
    ("<alice@example.net> SIZE=0", "250"),
    ("<alice@example.net> X-UNKNOWN=1", "555"),
    ("<alice@example.net> BODY=9BITMIME", "501"),
    ("<alice@example.net> RET=HDRS ENVID=a+0D+0Ab", "555"),
    ("<alice@example.net>SIZE=1", "501"),
    ("<alice>", "553"),
    ("<\u202ealice@example.net>", "501"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Held to this: workers live, nothing was a bug, and only users have directories."""
    limits = {"errors_slow": 1000, "errors_close": 1000}
    directory = tmp_path_factory.mktemp("addresses")
    with Program.inbound(directory, limits=limits) as server:
        workers = server.workers()
        yield server
        assert server.workers() == workers
        assert server.events("connection-bug") == []
        assert {path.name for path in (directory / "mail").iterdir()} <= set(USERS)


@pytest.fixture
def client(server: Program) -> Iterator[Talk]:
    with Talk(server.port) as client:
        client.greet()
        yield client


def everything(directory: Path) -> set[Path]:
    """All files but the log, which goes on."""
    return {path for path in directory.rglob("*") if path.name != "log.json"}


# -- addresses and lines


@pytest.mark.parametrize(("path", "reply", "login"), ADDRESSES, ids=lambda value: repr(value)[:40])
def test_hostile_recipient_is_looked_up_or_refused_and_touches_nothing_outside(
    server: Program, client: Talk, path: str, reply: str, login: str | None
) -> None:
    before = {each for each in everything(server.directory) if each.parts[-3:-2] != ("mail",)}
    assert client.say("MAIL FROM:<sender@example.net>").startswith("250")
    assert client.say(f"RCPT TO:{path}").startswith(reply)
    assert client.say("DATA").startswith("354" if login else "554")
    if login:
        assert client.say("Subject: a\r\n\r\nb\r\n.").startswith("250")
        assert len(server.take(login)) == 1
    after = everything(server.directory)
    known = {server.maildir(each) for each in USERS}
    assert not [each for each in after - before if not known & {each, *each.parents}]
    assert not [each for login in USERS for each in server.files(login)]


@pytest.mark.parametrize(("path", "reply"), SENDERS, ids=lambda value: repr(value)[:40])
def test_hostile_sender_or_parameter_is_refused(client: Talk, path: str, reply: str) -> None:
    assert client.say(f"MAIL FROM:{path}").startswith(reply)
    assert client.say("RSET").startswith("250")


@pytest.mark.parametrize("length", [510, 511, 512, 1000, 2048])
def test_rfc5321_4_5_3_1_4_line_within_the_limit_is_taken(client: Talk, length: int) -> None:
    line = b"NOOP ".ljust(length - 2, b"x")
    assert client.say(line).startswith("250")


@pytest.mark.parametrize("length", [2049, 4096, 10_240, 1 << 20])
def test_rfc5321_4_5_3_1_4_line_over_the_limit_is_refused_once_in_step(
    client: Talk, length: int
) -> None:
    client.send(b"EHLO ".ljust(length - 2, b"x") + b"\r\nNOOP\r\n")
    assert client.hear().startswith("500 5.5.2")
    assert client.hear().startswith("250")
    assert client.say("MAIL FROM:<>").startswith("250")


@pytest.mark.parametrize("octet", [b"\0", b"\xff", b"\r", b"\x1b", b"\x7f", b"\xc2"], ids=repr)
@pytest.mark.parametrize("verb", [b"EHLO", b"NOOP", b"VRFY", b"MAIL FROM:<a@b.c>", b"RSET"])
def test_octets_that_are_no_text_are_refused_in_arguments(
    client: Talk, verb: bytes, octet: bytes
) -> None:
    assert client.say(b"%s a%sb" % (verb, octet)).startswith("501")
    assert client.say("NOOP").startswith("250")


def test_what_clients_say_is_escaped_in_the_log(server: Program, client: Talk) -> None:
    said = "\x1b[2J\u202e\x07".encode() + b"\xff\xfe"
    client.say(b"VRFY " + said)
    client.say("RCPT TO:<\u202e\u2066@example.org>")
    server.await_event("refused")
    lines = server.log.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if any(category(char)[0] == "C" for char in line)]


# -- what the owner of a Maildir does


def become_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def become_file(path: Path, outside: Path) -> None:
    path.touch()


def become_fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def become_closed(path: Path, outside: Path) -> None:
    for each in (path, *(path / name for name in ("tmp", "new", "cur") if path.name == "alice")):
        each.mkdir()
    path.chmod(0)


def snapshot(outside: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.lstat().st_mtime_ns) for path in (outside, *outside.rglob("*")))


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[Program]:
    """A server whose workers are nobody's, so that modes bind them, where the tests are root's."""
    with Program.inbound(tmp_path, **open_to_nobody(tmp_path)) as server:
        yield server


def deliver(server: Program, *recipients: str) -> str:
    with Talk(server.port) as client:
        client.begin(*recipients)
        return client.say("Subject: a\r\n\r\nb\r\n.")


@pytest.mark.parametrize("what", ["", "tmp", "new"], ids=["maildir", "tmp", "new"])
@pytest.mark.parametrize(
    "become", [become_link, become_file, become_fifo, become_closed], ids=lambda f: f.__name__
)
def test_i8_owners_attack_defers_mail_touches_nothing_outside_and_others_get_theirs(
    owned: Program, become: Callable[[Path, Path], None], what: str
) -> None:
    outside = owned.directory / "outside"
    for name in ("tmp", "new", "cur"):
        (outside / name).mkdir(parents=True)
        (outside / name).chmod(0o777)
    before = snapshot(outside)
    assert deliver(owned, "alice@example.org").startswith("250")
    victim = owned.maildir("alice") / what
    victim.rename(owned.directory / "was")
    become(victim, outside)
    if os.geteuid() == 0:
        owner = pwd.getpwnam(NOBODY)
        os.lchown(victim, owner.pw_uid, owner.pw_gid)
    # A directory is known for a second; until then its mail goes to where it has been moved.
    for _ in owned.workers():
        eventually(lambda: deliver(owned, "alice@example.org").startswith("45"))
    assert deliver(owned, "alice@example.org", "bob@example.org").startswith("45")
    assert owned.files("bob") == []
    assert deliver(owned, "bob@example.org").startswith("250")
    assert snapshot(outside) == before
