"""Inputs that reach far: those of each target in a file, one a line, escaped as in Python."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent


def load(target: str, directory: Path = HERE) -> list[bytes]:
    """The inputs of a target."""
    lines = (directory / f"{target}.txt").read_text("ascii").splitlines()
    return [line.encode().decode("unicode_escape").encode("latin-1") for line in lines]


def save(target: str, inputs: Iterable[bytes], directory: Path = HERE) -> None:
    """Put these in place of what was there."""
    lines = {each.decode("latin-1").encode("unicode_escape").decode() for each in inputs}
    text = "".join(f"{line}\n" for line in sorted(lines, key=lambda line: (len(line), line)))
    (directory / f"{target}.txt").write_text(text, "ascii")
