"""What processes take: memory, processor time, descriptors."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterable
from pathlib import Path

from tests import needs

MIB = 1 << 20


def pss(pid: int) -> int:
    """Octets of memory of a process, what it shares with others counted in its share.

    Who is not root may not look into workers closely, and gets all that is resident, which is more.
    """
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except PermissionError:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    found = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def processor_seconds(pids: Iterable[int]) -> float:
    """Seconds of processor time that processes have taken altogether."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """How many a process has open; only root can tell of workers."""
    needs.root()
    return len(os.listdir(f"/proc/{pid}/fd"))
