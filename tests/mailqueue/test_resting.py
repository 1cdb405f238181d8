"""What deliverers leave alone, told to whoever looks: a hint that harms nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfsmtp.mailqueue.resting import Resting, publish, read

ORG = Resting("example.org", 160.0, "connection refused")
COM = Resting("example.com", 130.0, "no answer")


def test_what_all_deliverers_told_is_read_while_it_holds(tmp_path: Path) -> None:
    publish(tmp_path, 0, [ORG])
    publish(tmp_path, 11, [COM])
    assert read(tmp_path, 100.0) == {"example.org": ORG, "example.com": COM}
    assert read(tmp_path, 130.0) == {"example.org": ORG}
    publish(tmp_path, 0, [])
    assert read(tmp_path, 130.0) == {}


def test_it_is_for_the_owner_only(tmp_path: Path) -> None:
    publish(tmp_path, 0, [ORG])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "octets", [b"", b'[["example.org",', b'{"a":1}', b"\xff", b'[["a","b","c"]]']
)
def test_what_makes_no_sense_is_as_good_as_nothing(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "resting.0").write_bytes(octets)
    publish(tmp_path, 1, [COM])
    assert read(tmp_path, 100.0) == {"example.com": COM}


def test_no_directory_is_no_error(tmp_path: Path) -> None:
    publish(tmp_path / "none", 0, [ORG])
    assert read(tmp_path / "none", 0.0) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_its_way_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"dear")
    (tmp_path / "resting.0.new").symlink_to(target)
    publish(tmp_path, 0, [ORG])
    assert target.read_bytes() == b"dear"
    assert read(tmp_path, 0.0) == {"example.org": ORG}
