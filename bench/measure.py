"""What a run cost: CPU of a server, of the load, and what the host took away.

`Cgroup` and `ProcessTree` count the CPU seconds of a server's processes: the first exactly, as
the kernel accounts them, the second from /proc, in clock ticks, where no cgroup can be made.
Kernel threads (journal, block layer) are in neither. `Machine` says where the figures were taken.

Nothing here fails for want of a cgroup: `Cgroup.create` returns None.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Cgroup:
    """A control group of our own: every process started in it is counted, whatever it forks."""

    kind = "cgroup"

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, name: str) -> Cgroup | None:
        """Make the group below cpuacct (cgroup v1) or the root (v2); None where we may not."""
        for parent in (CGROUPS / "cpuacct", CGROUPS):
            group = cls(parent / name)
            try:
                group.path.mkdir()
                group.cpu_seconds()
            except OSError:
                continue
            return group
        return None

    def enter(self) -> None:
        """Move the calling process into the group; for `preexec_fn`."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def processes(self) -> list[int]:
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]

    def cpu_seconds(self) -> float:
        usage = self.path / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        microseconds = re.search(r"usage_usec (\d+)", (self.path / "cpu.stat").read_text())
        if microseconds is None:
            raise OSError(f"{self.path}/cpu.stat has no usage_usec")
        return int(microseconds[1]) / 1e6

    def remove(self) -> None:
        """Give the group back; it must be empty."""
        self.path.rmdir()


class ProcessTree:
    """A process, its descendants, and the descendants they have waited for."""

    kind = "/proc/*/stat"

    def __init__(self, root: int) -> None:
        self.root = root

    def cpu_seconds(self) -> float:
        parents: dict[int, int] = {}
        ticks: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name may hold spaces and parentheses: fields count from the last one.
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended; its parent has its time
            pid = int(stat.parent.name)
            parents[pid] = int(fields[1])
            ticks[pid] = sum(map(int, fields[11:15]))  # utime stime cutime cstime
        return sum(ticks[pid] for pid in ticks if self._descends(pid, parents)) / TICKS_PER_SECOND

    def processes(self) -> list[int]:
        """The process and its descendants."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        return [pid for pid in parents if self._descends(pid, parents)]

    def _descends(self, pid: int, parents: dict[int, int]) -> bool:
        while pid in parents and pid != self.root:
            pid = parents[pid]
        return pid == self.root


def memory_kib(processes: Iterable[int]) -> float:
    """The memory of processes together in KiB: what several share is counted once (PSS)."""
    total = 0
    for pid in processes:
        with suppress(OSError):  # it has just ended
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(size) for size in re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE))
    return float(total)


@dataclass(frozen=True, slots=True)
class HostTime:
    """Seconds of all cores together since boot, and those that the hypervisor kept."""

    total: float
    steal: float

    @classmethod
    def now(cls) -> HostTime:
        with open("/proc/stat") as stat:
            ticks = [int(field) for field in stat.readline().split()[1:9]]
        return cls(sum(ticks) / TICKS_PER_SECOND, ticks[7] / TICKS_PER_SECOND)

    def steal_since(self, earlier: HostTime) -> float:
        """The share of the machine that was stolen between the two, 0 to 1."""
        elapsed = self.total - earlier.total
        return (self.steal - earlier.steal) / elapsed if elapsed else 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the figures were taken."""

    cores: int
    processor: str
    memory_gib: float
    system: str
    kernel: str
    file_system: str
    python: str

    @classmethod
    def describe(cls, directory: Path) -> Machine:
        """Describe this machine, and the file system that holds `directory`."""
        processor = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(
            cores=os.cpu_count() or 0,
            processor=processor[1] if processor else platform.machine(),
            memory_gib=round(memory / 2**30, 1),
            system=_system_name(),
            kernel=platform.release(),
            file_system=_file_system(directory),
            python=sys.version.split()[0],
        )

    def __str__(self) -> str:
        return ", ".join(
            (
                f"{self.cores} cores ({self.processor})",
                f"{self.memory_gib} GiB",
                self.system,
                f"Linux {self.kernel}",
                self.file_system,
                f"Python {self.python}",
            )
        )

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _file_system(directory: Path) -> str:
    """Type and options of the mount that holds `directory`, like `ext4 (rw,relatime)`."""
    best, answer = -1, "unknown file system"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if directory.is_relative_to(mount) and len(mount) > best:
            best, answer = len(mount), f"{kind} ({options})"
    return answer


def median_and_range(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay the table out so that it reads in a terminal and renders as Markdown."""
    body = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = [width * "-" for width in widths]
    return "\n".join(line(cells) for cells in (header, rule, *body))
