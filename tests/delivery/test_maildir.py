"""Mail in Maildirs: to all or none, octet for octet, durable when the commit returns."""

from __future__ import annotations

import errno
import itertools
import mailbox
import os
import resource
import shutil
import signal
import threading
import tracemalloc
from pathlib import Path

import pytest

from pfsmtp.delivery.maildir import intake
from pfsmtp.delivery.maildir.store import MaildirStore, free_octets
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import TransientFailure
from pfsmtp.smtp.ports import MessageStore
from pfsmtp.smtp.status import Status
from tests import disks, needs
from tests.delivery.conftest import ALICE, BOB, CAROL, LARGE, MESSAGE, ORIGIN, MakePost, Post
from tests.syscalls import Border, failing

FILES = ("openat", "writev", "fsync", "renameat2", "linkat", "unlinkat", "copy_file_range")


def body(message: bytes) -> bytes:
    """What follows our own trace fields, the last of which is Received in four lines."""
    return message.split(b" +0000\n", 1)[1]


def header(message: bytes) -> list[bytes]:
    """The names of the first fields, in order."""
    lines = message.split(b"\n\n", 1)[0].split(b"\n")
    return [line.split(b":")[0] for line in lines if not line.startswith(b"\t")]


# What is stored


def test_store_is_what_the_dialogue_asks_for(post: Post) -> None:
    store: MessageStore = post.store
    assert store.line_end == b"\n"


@pytest.mark.parametrize("message", [MESSAGE, LARGE, b"", b"\n", b"no end"])
def test_message_is_stored_octet_for_octet_under_our_trace(post: Post, message: bytes) -> None:
    post.send(ALICE, message=message)
    (stored,) = post.new("alice")
    assert body(stored) == message
    assert header(stored)[:3] == [b"Return-Path", b"Delivered-To", b"Received"]
    assert stored.startswith(
        b"Return-Path: <sender@example.net>\n"
        b"Delivered-To: alice@example.org\n"
        b"Received: from client.example ([192.0.2.1])\n\tby mx.example.org with ESMTP id "
    )
    assert os.listdir(post.maildir("alice") / "tmp") == []


def test_null_reverse_path_is_shown_as_such(post: Post) -> None:
    taking = post.store.begin(post.envelope(ALICE, sender=None), ORIGIN)
    taking.commit()
    assert post.new("alice")[0].startswith(b"Return-Path: <>\n")


def test_received_names_the_recipient_only_where_there_is_one(post: Post) -> None:
    post.send(ALICE)
    assert b"\tfor <alice@example.org>;\n" in post.new("alice")[0]
    post.send(BOB, CAROL)
    assert b"\tfor " not in post.new("bob")[0] + post.new("carol")[0]


def test_id_is_in_received_and_in_the_receipt(post: Post) -> None:
    taking = post.store.begin(post.envelope(ALICE), ORIGIN)
    taking.write(MESSAGE)
    receipt = taking.commit()
    assert receipt.id == taking.id
    assert f" id {taking.id}\n".encode() in post.new("alice")[0]


def test_receipt_names_the_files(post: Post) -> None:
    receipt = post.send(ALICE, BOB)
    assert [Path(file).parent.parent.name for file in receipt.files] == ["alice", "bob"]
    assert sorted(receipt.files) == [str(path) for path in post.everything()]


def test_python_reads_the_maildir(post: Post) -> None:
    post.send(ALICE)
    (message,) = mailbox.Maildir(post.maildir("alice"))
    assert message["Subject"] == "x"
    assert message.get_payload() == "body\n"


# Recipients


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
def test_each_recipient_gets_a_copy_with_his_own_address(post: Post, message: bytes) -> None:
    post.send(ALICE, BOB, CAROL, message=message)
    for login in ("alice", "bob", "carol"):
        (stored,) = post.new(login)
        assert f"Delivered-To: {login}@example.org\n".encode() in stored
        assert body(stored) == message


def test_same_mailbox_twice_gets_one_copy(post: Post) -> None:
    post.send(ALICE, "alice@EXAMPLE.org", "Alice@example.org")
    assert post.counts("alice") == [1]


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
def test_two_addresses_of_one_login_get_a_copy_each(post: Post, message: bytes) -> None:
    post.send(ALICE, "alias-of-alice@example.org", message=message)
    first, second = sorted(post.new("alice"))
    assert b"Delivered-To: alias-of-alice@example.org\n" in first
    assert b"Delivered-To: alice@example.org\n" in second


def test_thousand_recipients_get_it(post: Post) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        post.send(*(f"user{i}@example.org" for i in range(1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(post.everything()) == 1000


def test_recipient_whom_the_map_does_not_know_defers_the_message(post: Post) -> None:
    with pytest.raises(TransientFailure) as raised:
        post.store.begin(post.envelope(ALICE, "nobody@example.org"), ORIGIN)
    assert raised.value.status == Status(4, 3, 5)


def test_postmaster_without_domain_is_a_mailbox_like_others(post: Post) -> None:
    envelope = Envelope(None, (Recipient(Mailbox("postmaster", "")),))
    post.store.begin(envelope, ORIGIN).commit()
    assert b"Delivered-To: postmaster\n" in post.new("postmaster")[0]


# Giving up


def test_beginning_touches_no_disk(post: Post) -> None:
    post.store.begin(post.envelope(ALICE), ORIGIN)
    assert not post.base.exists()


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
def test_abort_leaves_nothing_and_may_come_after_all(post: Post, message: bytes) -> None:
    taking = post.store.begin(post.envelope(ALICE, BOB), ORIGIN)
    taking.write(message)
    taking.abort()
    taking.abort()
    assert post.everything() == []


def test_abort_after_commit_takes_nothing_back(post: Post) -> None:
    for message in (MESSAGE, LARGE):
        taking = post.store.begin(post.envelope(ALICE), ORIGIN)
        taking.write(message)
        taking.commit()
        taking.abort()
    assert post.counts("alice") == [2]


def test_abort_never_raises(post: Post) -> None:
    taking = post.store.begin(post.envelope(ALICE), ORIGIN)
    taking.write(LARGE)
    Border(FILES, failing("unlinkat", errno.EIO)).run(taking.abort)


# Large messages


def test_large_message_goes_to_the_disk_as_it_arrives(post: Post) -> None:
    taking = post.store.begin(post.envelope(ALICE), ORIGIN)
    chunk = bytes(range(1, 255)) * 40
    written = 0
    while written < 4 << 20:
        taking.write(chunk)
        written += len(chunk)
        staged = sum(path.stat().st_size for path in post.everything())
        assert written - staged <= intake.MOST_IN_MEMORY + len(chunk)
    taking.abort()


def test_large_message_is_synced_for_all_before_it_is_shown_to_one(post: Post) -> None:
    post.send(ALICE, BOB)
    border = Border(("fsync", "renameat2"))
    border.run(lambda: post.send(ALICE, BOB, message=LARGE))
    assert [call.name for call in border.calls] == (
        ["fsync"] * 2 + ["renameat2"] * 2 + ["fsync"] * 2
    )


@pytest.mark.parametrize("message", [MESSAGE * 4096, LARGE], ids=["whole", "pieces"])
@pytest.mark.parametrize("recipients", [(ALICE,), (ALICE, BOB)], ids=["one", "two"])
def test_large_message_is_not_kept_in_memory(
    post: Post, recipients: tuple[str, ...], message: bytes
) -> None:
    post.send(*recipients)
    kept = [path for path in post.everything() if in_memory(path)]
    if not kept:
        needs.lacking("needs a disk: the kernel says of no file here that it is in memory")
    post.send(*recipients, message=message)
    assert [path for path in post.everything() if in_memory(path)] == kept


def in_memory(path: Path) -> bool:
    """Whether the kernel can give the first octets of a file without asking the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def test_memory_is_flat_while_a_large_message_arrives(post: Post) -> None:
    taking = post.store.begin(post.envelope(ALICE), ORIGIN)
    tracemalloc.start()
    try:
        for _ in range(30 * 16):
            taking.write(bytes(65536))
        assert tracemalloc.get_traced_memory()[1] < 1.5 * intake.MOST_IN_MEMORY
    finally:
        tracemalloc.stop()
    taking.commit()
    assert len(body(post.new("alice")[0])) == 30 << 20


def test_message_of_the_limit_waits_in_memory(post: Post) -> None:
    taking = post.store.begin(post.envelope(ALICE), ORIGIN)
    taking.write(bytes(intake.MOST_IN_MEMORY))
    assert not post.base.exists()
    taking.write(b"x")
    assert len(post.everything()) == 1
    taking.abort()


@pytest.mark.parametrize("before", ["arrival", "commit"])
def test_maildir_deleted_under_a_large_message_is_made_again(post: Post, before: str) -> None:
    post.send(ALICE, BOB)
    taking = post.store.begin(post.envelope(ALICE, BOB), ORIGIN)
    if before == "arrival":
        shutil.rmtree(post.maildir("alice"))
    taking.write(LARGE)
    if before == "commit":
        shutil.rmtree(post.maildir("alice"))
    taking.commit()
    assert [body(stored) for stored in post.new("alice")] == [LARGE]
    assert post.counts("alice", "bob") == [1, 2]
    assert len(post.everything()) == 3


# Room


def test_room_is_what_the_disk_has_left_asked_once_a_second(
    make_post: MakePost, tmp_path: Path
) -> None:
    with disks.tmpfs(tmp_path / "disk") as disk:
        post = make_post(disk / "not/yet/made")
        assert post.store.room_for(1 << 20)
        assert not post.store.room_for((1 << 20) + 1)
        disks.fill(disk)
        assert post.store.room_for(1 << 20)
        post.clock.pass_by(1.01)
        assert not post.store.room_for(1)
        assert post.store.room_for(0)


def test_file_systems_that_count_no_inodes_have_room(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", "size=1m,nr_inodes=0") as disk:
        assert os.statvfs(disk).f_files == 0
        assert free_octets(disk) == 1 << 20


# Threads, processes, and the file system synced as a whole


def test_file_system_mode_delivers_the_same(make_post: MakePost) -> None:
    post = make_post(sync="filesystem")
    border = Border(("fsync", "syncfs"))
    post.send(ALICE, BOB)
    border.run(lambda: post.send(ALICE, BOB))
    assert [call.name for call in border.calls] == ["syncfs"] * 2
    post.send(ALICE, BOB, message=LARGE)
    assert [body(stored) for stored in post.new("bob")] == [MESSAGE, MESSAGE, LARGE]


def test_file_system_mode_recovers_from_a_failed_sync(make_post: MakePost) -> None:
    post = make_post(sync="filesystem")
    post.send(ALICE, BOB)
    with pytest.raises(TransientFailure):
        Border(("syncfs",), failing("syncfs", errno.EIO)).run(lambda: post.send(ALICE))
    post.send(BOB)
    post.send(ALICE, CAROL)
    assert post.counts("alice", "bob", "carol") == [2, 2, 1]


@pytest.mark.parametrize("sync", ["files", "filesystem"])
def test_threads_deliver_to_the_same_users_at_once(make_post: MakePost, sync: str) -> None:
    post = make_post(sync=sync)

    def work(number: int) -> None:
        for i in range(20):
            post.send(ALICE, f"user{i}@example.org", message=b"%d.%d" % (number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {body(stored) for stored in post.new("alice")} == {
        b"%d.%d" % (number, i) for number in range(8) for i in range(20)
    }
    assert post.counts(*(f"user{i}" for i in range(20))) == [8] * 20
    assert len(post.everything()) == 8 * 20 * 2


def test_kill_leaves_every_acknowledged_message_whole_and_no_partial_one(
    make_post: MakePost,
) -> None:
    """As far as it can be told without cutting the power."""
    message = b"x" * 100_000

    def deliver_until_killed(out: int) -> None:
        post = make_post()
        while True:
            receipt = post.send(ALICE, BOB, message=message)
            os.write(out, "".join(f"{file}\n" for file in receipt.files).encode())

    for _ in range(5):
        receive, send = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                deliver_until_killed(send)
            finally:
                os._exit(1)
        os.close(send)
        with os.fdopen(receive) as pipe:
            acknowledged = [pipe.readline() for _ in range(20)]
            os.kill(pid, signal.SIGKILL)
            acknowledged += pipe.readlines()
        os.waitpid(pid, 0)
        for name in acknowledged:
            assert body(Path(name.rstrip("\n")).read_bytes()) == message
    for path in make_post().everything():
        if path.parent.name == "new":
            assert body(path.read_bytes()) == message


def test_store_refuses_a_template_that_leads_nowhere() -> None:
    with pytest.raises(ValueError, match="absolute"):
        MaildirStore(
            "mail/{login}", lambda mailbox: "x", hostname="h", numbers=itertools.count().__next__
        )
