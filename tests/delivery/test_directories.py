"""Maildirs as they are found: made, hostile, deleted, moved, and more of them than descriptors."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.delivery.maildir.directories import Maildirs
from pfsmtp.delivery.maildir.sweep import ABANDONED
from pfsmtp.smtp.errors import TransientFailure
from pfsmtp.smtp.status import Status
from tests import disks, needs
from tests.delivery.conftest import Clock, MakePost, Post
from tests.syscalls import Border

DISABLED = Status(4, 2, 1)


def maildirs(template: str, clock: Clock, room: int = 256) -> Maildirs:
    return Maildirs(
        template,
        whole_filesystem=False,
        clock=lambda: clock.wall,
        monotonic=lambda: clock.monotonic,
        room=room,
    )


def contents(base: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that is below, to see whether it was touched."""
    return {
        str(path): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [base, *base.rglob("*")]
    }


# Made when missing


def test_maildir_is_made_private_with_all_that_leads_to_it(make_post: MakePost) -> None:
    post = make_post(below="{login}/Mail")
    post.send("alice@example.org")
    maildir = post.base / "alice/Mail"
    made = [post.base, post.base / "alice", maildir, *(maildir / n for n in ("tmp", "new", "cur"))]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}
    assert len(os.listdir(maildir / "new")) == 1


def test_entries_of_a_maildir_that_was_made_are_synced_before_its_first_mail(post: Post) -> None:
    border = Border(("mkdirat", "fsync"))
    border.run(lambda: post.send("alice@example.org"))
    names = [call.name for call in border.calls]
    base, login, entries, mail = ["mkdirat"], ["mkdirat"], ["mkdirat"] * 3, ["fsync"] * 2
    assert names == [*base, "fsync", *login, "fsync", *entries, "fsync", *mail]


def test_maildir_of_another_program_gets_what_it_lacks(post: Post) -> None:
    (post.maildir("alice") / "cur").mkdir(parents=True)
    post.send("alice@example.org")
    assert len(post.new("alice")) == 1


@pytest.mark.parametrize("template", ["{login}", "mail/{login}", "/mail/alice", "/m/{login}/../x"])
def test_template_must_be_absolute_and_name_the_login(template: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        maildirs(template, Clock())


def test_login_may_be_part_of_a_name_and_come_twice(tmp_path: Path) -> None:
    opened = maildirs(f"{tmp_path}/m-{{login}}/{{login}}.d", Clock()).open("alice")
    assert opened.path == f"{tmp_path}/m-alice/alice.d"
    assert (tmp_path / "m-alice/alice.d/new").is_dir()


@pytest.mark.parametrize("login", ["", ".", "..", "../alice", "a/b", "/etc", "a\0b"])
def test_login_that_leads_elsewhere_is_refused(tmp_path: Path, login: str) -> None:
    with pytest.raises(OSError, match="login"):
        maildirs(f"{tmp_path}/mail/{{login}}", Clock()).open(login)
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["mail"])


# The owner's attacks


def become_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def become_dangling_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "missing")


def become_file(path: Path, outside: Path) -> None:
    path.touch()


def become_fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("what", ["", "tmp", "new"], ids=["maildir", "tmp", "new"])
@pytest.mark.parametrize(
    "attack",
    [become_link, become_dangling_link, become_file, become_fifo],
    ids=lambda a: a.__name__,
)
@pytest.mark.parametrize("known", [False, True], ids=["first", "later"])
def test_owners_attack_defers_mail_and_touches_nothing_outside(
    post: Post, tmp_path: Path, what: str, attack: Callable[[Path, Path], None], known: bool
) -> None:
    outside = tmp_path / "outside"
    for name in ("tmp", "new", "cur"):
        (outside / name).mkdir(parents=True)
    victim = post.maildir("alice") / what
    if known:
        post.send("alice@example.org")
        post.clock.pass_by(2)
        shutil.rmtree(victim)
    else:
        victim.parent.mkdir(parents=True)
    attack(victim, outside)
    before = contents(outside)
    with pytest.raises(TransientFailure) as raised:
        post.send("alice@example.org", "bob@example.org")
    assert raised.value.status == DISABLED
    assert isinstance(raised.value.__cause__, OSError)
    assert contents(outside) == before
    assert not [path for path in post.everything() if path.parent.parent.name == "bob"]


@pytest.mark.parametrize("what", ["", "tmp", "new"], ids=["maildir", "tmp", "new"])
def test_other_device_in_the_way_defers_mail_and_is_not_touched(
    post: Post, tmp_path: Path, what: str
) -> None:
    place = post.maildir("alice") / what
    place.mkdir(parents=True)
    with disks.tmpfs(place) as disk:
        before = contents(disk)
        with pytest.raises(TransientFailure) as raised:
            post.send("alice@example.org")
        assert raised.value.status == DISABLED
        assert contents(disk) == before


@pytest.mark.parametrize("what", ["", "tmp", "new"], ids=["maildir", "tmp", "new"])
def test_mode_000_defers_mail(make_post: MakePost, what: str) -> None:
    """As a user whom modes bind, in a process of his."""
    needs.root()
    base = Path(tempfile.mkdtemp())
    base.chmod(0o777)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setuid(65534)
            post = make_post(base / "mail")
            post.send("alice@example.org")
            (post.maildir("alice") / what).chmod(0)
            post.clock.pass_by(1.01)
            for each in (post, make_post(base / "mail")):
                with pytest.raises(TransientFailure) as raised:
                    each.send("alice@example.org")
                assert raised.value.status == DISABLED
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    shutil.rmtree(base)
    assert ended == 0


def test_links_before_the_login_are_the_operators(make_post: MakePost, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    post = make_post(tmp_path / "link")
    post.send("alice@example.org")
    assert len(os.listdir(tmp_path / "disk/alice/new")) == 1


# Kept open


def test_second_delivery_opens_no_directory(post: Post) -> None:
    post.send("alice@example.org")
    border = Border(("openat", "mkdirat"))
    border.run(lambda: post.send("alice@example.org"))
    assert [call.makes_file for call in border.calls] == [True]


def test_maildir_deleted_and_made_again_gets_its_mail_at_once(post: Post) -> None:
    post.send("alice@example.org")
    shutil.rmtree(post.maildir("alice"))
    post.send("alice@example.org")
    assert len(post.new("alice")) == 1
    shutil.rmtree(post.maildir("alice") / "new")
    post.send("alice@example.org")
    assert len(post.new("alice")) == 1


def test_maildir_renamed_is_left_within_a_second(post: Post) -> None:
    post.send("alice@example.org")
    post.maildir("alice").rename(post.base / "archive")
    post.clock.pass_by(1.01)
    post.send("alice@example.org")
    assert len(post.new("alice")) == 1
    assert len(post.new("archive")) == 1


def test_new_that_was_replaced_is_noticed_within_a_second(post: Post) -> None:
    post.send("alice@example.org")
    (post.maildir("alice") / "new").rename(post.base / "old")
    (post.maildir("alice") / "new").mkdir()
    post.clock.pass_by(1.01)
    post.send("alice@example.org")
    assert len(post.new("alice")) == 1


def test_maildirs_used_last_stay_open_and_no_more_than_there_is_room_for(tmp_path: Path) -> None:
    clock = Clock()
    several = maildirs(f"{tmp_path}/{{login}}", clock, room=16)
    several.open("often")
    before = len(os.listdir("/proc/self/fd"))
    kept = several.open("often")
    for i in range(100):
        clock.pass_by(1.5)
        several.open(f"user{i}")
        several.open("often")
    assert several.open("often") is kept
    assert len(os.listdir("/proc/self/fd")) - before <= 2 * 16


def test_tmp_is_swept_when_a_maildir_is_opened_and_then_daily(post: Post) -> None:
    post.send("alice@example.org")

    def leave() -> Path:
        path = post.maildir("alice") / "tmp/left"
        path.touch()
        long_ago = post.clock.wall - ABANDONED - 1
        os.utime(path, (long_ago, long_ago))
        return path

    left = leave()
    post.clock.pass_by(23 * 3600)
    post.send("alice@example.org")
    assert left.exists()
    post.clock.pass_by(2 * 3600)
    post.send("alice@example.org")
    assert not left.exists()
    left = leave()
    shutil.rmtree(post.maildir("alice") / "new")
    post.send("alice@example.org")
    assert not left.exists()
