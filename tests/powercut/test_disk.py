"""What the disks of these tests stand."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from tests import needs
from tests.powercut.disk import EXT4, XFS, FileSystem, RecordedDisk


@contextmanager
def mount_namespace() -> Iterator[None]:
    """Somebody with a mount namespace of their own, who holds what is mounted at the beginning."""
    unshare = needs.tool("unshare", package="util-linux")
    with subprocess.Popen(
        [unshare, "--mount", "sh", "-c", "echo there; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "there\n"
        try:
            yield
        finally:
            holder.communicate("\n")


@pytest.mark.parametrize("filesystem", [EXT4, XFS], ids=lambda each: each.name)
def test_what_is_left_is_mounted_while_somebody_still_holds_the_disk_before(
    tmp_path: Path, filesystem: FileSystem
) -> None:
    where = tmp_path / "mail"
    with ExitStack() as until_the_end, RecordedDisk(tmp_path, filesystem) as disk:
        with disk.mounted(where):
            first = disk.position()
            with (where / "file").open("w") as file:
                file.write("synced")
                file.flush()
                os.fsync(file.fileno())
            last = disk.position()
            until_the_end.enter_context(mount_namespace())
        (cut,) = disk.cuts(Random(1), 1, answers=[last], within=(first, last))
        with disk.surviving(cut, where, Random(1)):
            assert (where / "file").read_text() == "synced"
