"""What deliveries that died have left in `tmp/`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pfsmtp.delivery.maildir.sweep import sweep
from pfsmtp.durable import Directory

NOW = time.time()
HOUR = 3600.0
OLD = NOW - 36.01 * HOUR
YOUNG = NOW - 35.99 * HOUR


def leave(path: Path, *, read: float, written: float) -> Path:
    path.write_bytes(b"half a mess")
    os.utime(path, (read, written))
    return path


def test_file_untouched_for_36_hours_is_removed(tmp_path: Path) -> None:
    leave(tmp_path / "a", read=OLD, written=OLD)
    sweep(Directory(tmp_path), NOW)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("read", "written"), [(YOUNG, OLD), (OLD, YOUNG), (YOUNG, YOUNG)])
def test_file_read_or_written_since_is_left(tmp_path: Path, read: float, written: float) -> None:
    leave(tmp_path / "a", read=read, written=written)
    sweep(Directory(tmp_path), NOW)
    assert os.listdir(tmp_path) == ["a"]


def test_what_is_no_file_is_left_and_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    target = leave(tmp_path / "target", read=OLD, written=OLD)
    link = tmp_path / "tmp/link"
    link.symlink_to(target)
    os.utime(link, (OLD, OLD), follow_symlinks=False)
    (tmp_path / "tmp/directory").mkdir()
    os.utime(tmp_path / "tmp/directory", (OLD, OLD))
    os.mkfifo(tmp_path / "tmp/fifo")
    os.utime(tmp_path / "tmp/fifo", (OLD, OLD))
    sweep(Directory(tmp_path / "tmp"), NOW)
    assert sorted(os.listdir(tmp_path / "tmp")) == ["directory", "fifo", "link"]
    assert target.exists()


def test_name_that_is_no_text_is_removed_as_well(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    leave(tmp_path / name, read=OLD, written=OLD)
    sweep(Directory(tmp_path), NOW)
    assert os.listdir(tmp_path) == []


def test_directory_that_is_gone_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    tmp = Directory(tmp_path / "tmp")
    (tmp_path / "tmp").rmdir()
    sweep(tmp, NOW)
