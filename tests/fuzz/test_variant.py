"""What variants are built from."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.variant import ROOT, copy_sources


def test_copy_has_every_source_and_nothing_that_was_built(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    modules = {path.stem for path in (ROOT / "ext").glob("*.pyx")}
    written = {path.name for path in (ROOT / "ext").iterdir() if path.suffix in (".pyx", ".pxd")}
    programs = {path.name for path in (ROOT / "ext").glob("*.c") if path.stem not in modules}
    assert {path.name for path in (tmp_path / "ext").iterdir()} == written | programs
    assert "front.c" in programs
    assert (tmp_path / "tests" / "powercut" / "unsynced.c").exists()
    assert not [*tmp_path.rglob("*.so")]
