"""`pfsmtp -c FILE crashtest` as an operator runs it, and what it says in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.running.program import ROOT, Program

Figures = dict[str, int]


def as_lines(figures: Figures) -> Iterator[str]:
    """For people."""
    for name, number in figures.items():
        yield f"{name.replace('_', ' '):<28} {number:>9,}"


class Run:
    """One run on the configuration of a server that is not started otherwise."""

    def __init__(self, server: Program, *options: str) -> None:
        self.base = server.directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pfsmtp", "-c", str(server.config), "crashtest", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
            text=True,
        )
        self.told = self.progress = ""

    def end(self) -> int:
        """Wait for its end, and return the exit status."""
        self.told, self.progress = self.process.communicate()
        assert "Traceback" not in self.progress
        return self.process.returncode

    @property
    def verdict(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.told)
        return told

    @property
    def figures(self) -> Figures:
        figures: Figures = self.verdict["figures"]
        return figures

    @property
    def site(self) -> Path | None:
        """Its directory, if it has one."""
        return next(self.base.glob("pfsmtp-crashtest-*"), None)

    def delivered(self) -> list[Path]:
        """The files in the Maildirs of the test."""
        return list(self.base.glob("pfsmtp-crashtest-*/mail/user*/new/*"))

    def log(self) -> str:
        """What the server has logged so far."""
        path = self.site / "server.log" if self.site is not None else None
        return path.read_text() if path is not None and path.exists() else ""

    def abandon(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
