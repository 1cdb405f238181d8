"""What tests need of the machine: without it they are skipped with the reason, and fail in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from pfsmtp.process import landlock as kernel


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
