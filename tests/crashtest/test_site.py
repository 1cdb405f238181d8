"""The directory of a test: beside the real mail, and never among it."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from random import Random

import pytest

from pfsmtp.config import Config, load
from pfsmtp.crashtest import site as module
from pfsmtp.crashtest.site import CannotRun, Site, free_port
from tests import needs
from tests.disks import tmpfs

SPACE = 1 << 20


def inbound(directory: Path, maildir: str = "var/mail/{login}") -> Config:
    path = directory / "inbound.toml"
    path.write_text(
        'role = "inbound"\nhostname = "mx.example.org"\n[listen]\nsmtp = ["127.0.0.1:2525"]\n'
        f'[local]\nusers = "users"\nmaildir = "{maildir}"\n'
    )
    return load(path)


def test_it_is_beside_the_real_mail(tmp_path: Path) -> None:
    (tmp_path / "var" / "mail").mkdir(parents=True)
    site = Site(inbound(tmp_path), None, space=SPACE)
    assert site.path.parent == tmp_path / "var"
    assert site.path.name.startswith("pfsmtp-crashtest-")
    assert os.listdir(tmp_path / "var" / "mail") == []


def test_where_there_is_no_mail_yet_it_is_where_that_would_be(tmp_path: Path) -> None:
    assert Site(inbound(tmp_path), None, space=SPACE).path.parent == tmp_path
    assert not (tmp_path / "var").exists()


def test_removing_it_leaves_all_else(tmp_path: Path) -> None:
    site = Site(inbound(tmp_path), None, space=SPACE)
    other = Site(inbound(tmp_path), None, space=SPACE)
    (site.path / "mail").mkdir()
    (site.path / "mail" / "a").write_text("a")
    site.remove()
    assert sorted(os.listdir(tmp_path)) == ["inbound.toml", other.path.name]


def test_it_can_be_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert Site(inbound(tmp_path), elsewhere, space=SPACE).path.parent == elsewhere


@pytest.mark.parametrize("place", ["var/mail", "var/mail/alice", "link"])
def test_it_is_never_among_the_real_mail(tmp_path: Path, place: str) -> None:
    (tmp_path / "var" / "mail" / "alice").mkdir(parents=True)
    (tmp_path / "link").symlink_to("var/mail")
    with pytest.raises(CannotRun, match="where the real mail is"):
        Site(inbound(tmp_path), tmp_path / place, space=SPACE)


def test_mail_on_a_file_system_of_its_own_needs_a_place_named(tmp_path: Path) -> None:
    needs.root()
    (tmp_path / "var" / "mail").mkdir(parents=True)
    with tmpfs(tmp_path / "var" / "mail"), pytest.raises(CannotRun, match="--directory"):
        Site(inbound(tmp_path), None, space=SPACE)


def test_too_little_room_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="--space"):
        Site(inbound(tmp_path), None, space=shutil.disk_usage(tmp_path).total)
    assert os.listdir(tmp_path) == ["inbound.toml"]


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="--directory"):
        Site(inbound(tmp_path), Path("/proc/self"), space=0)


def test_ports_are_not_those_that_clients_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "range").write_text("10010\t65000\n")
    monkeypatch.setattr(module, "_PORT_RANGE", tmp_path / "range")
    ports = {free_port(Random(seed)) for seed in range(50)}
    assert all(port < 10010 or port > 65000 for port in ports)


def test_a_port_that_is_taken_at_one_address_is_not_free() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        assert not module._is_free("127.0.0.2", port)
        assert module._is_free("127.0.0.3", port)
