"""What tests need of the machine: without it they are skipped with the reason, and fail in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from pfsmtp.process import landlock as kernel

ROOT = Path(__file__).parents[1]


def lacking(reason: str) -> NoReturn:
    """End the test: a failure where CI is set, else a skip."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def tool(name: str, *, package: str | None = None) -> str:
    """The path of a program, of the Debian package of the same name or the one given."""
    found = shutil.which(name)
    if found is None:
        lacking(f"needs {name} (apt install {package or name})")
    return found


def root() -> None:
    """To be root, which not everybody is in CI either."""
    if os.geteuid() != 0:
        pytest.skip("only root can do this")


def interpreter(prefix: Sequence[str]) -> None:
    """To run Python and what is tested as somebody else, who may not be let into its directory.

    `prefix` is a command that becomes that user.
    """
    tried = subprocess.run(
        [*prefix, sys.executable, "-c", "import pfsmtp.cli, msgspec"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if tried.returncode:
        said = tried.stderr.strip().rpartition("\n")[2]
        pytest.skip(f"other users cannot run {sys.executable}: {said}")


def landlock(abi: int) -> None:
    """A kernel with this version of Landlock, or a later one; which CI does not choose either."""
    if kernel.abi() < abi:
        pytest.skip(f"needs Landlock ABI {abi}; this kernel has {kernel.abi()}")


def device(path: Path) -> None:
    """A device, which a container may not have."""
    if not os.access(path, os.R_OK | os.W_OK):
        pytest.skip(f"needs {path}")


def filesystem(kind: str) -> None:
    """A kind of file system that the kernel has, or has a module for; CI does not choose it."""
    if shutil.which("modprobe") is not None:
        subprocess.run(["modprobe", "--quiet", kind], check=False)
    if kind not in Path("/proc/filesystems").read_text().split():
        pytest.skip(f"this kernel has no {kind}")
