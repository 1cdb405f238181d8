"""What a message costs pfsmtp in system calls and context switches, and a flame graph.

Three runs under the same load, each with another tool at the server's processes:

    strace       system calls by name; everything else is distorted in this run
    perf stat    context switches, migrations between cores, page faults, futex calls
    sampling     a flame graph: py-spy where it is installed (`pip install py-spy`), which knows
                 Python's functions and not the kernel's; else perf, which knows both but names
                 functions of Python only from 3.12 on (`--pfsmtp "python -X perf -m pfsmtp"`)

A futex call is a thread that waits for a lock, or wakes one: nearly always the GIL.

    bench/profile.py outbound --flame outbound.svg
    bench/profile.py inbound --cell 50:1k:reuse
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import inbound
import outbound
import plots
from comparison import Bench, Workload, add_server_options, await_delivery
from flame import gather, render
from loads import Cell, RunFailedError
from measure import markdown_table
from peers import PeerError, Pfsmtp, Server, running

EVENTS = ("context-switches", "cpu-migrations", "page-faults", "syscalls:sys_enter_futex")
SAMPLES_PER_SECOND = 500
ATTACH_SECONDS = 20.0
FEWEST_CALLS = 0.005  # a message; what is rarer is left out

Roles = dict[str, list[int]]
"""The processes of each kind."""


def roles_of(server: Server) -> Roles:
    """The workers by what they do, which they have as their title; the master does nothing."""
    roles: Roles = {}
    for pid in server.processes():
        title = Path(f"/proc/{pid}/cmdline").read_text().strip("\0 ")
        found = re.match(r"pfsmtp: (\w+) \d", title)
        if found:
            roles.setdefault(found[1], []).append(pid)
    return roles


@contextmanager
def attached(command: Sequence[str], pids: Sequence[int], said: Path) -> Iterator[None]:
    """Have a tool look at these processes, that is told to end by SIGINT.

    Raises PeerError when it does not begin.
    """
    if shutil.which(command[0]) is None:
        raise PeerError(f"{command[0]} is not installed")
    with said.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    deadline = time.monotonic() + ATTACH_SECONDS
    try:
        while not _is_attached(process, command[0], pids):
            if process.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"{command[0]}: {said.read_text()[-300:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _is_attached(process: subprocess.Popen[bytes], tool: str, pids: Sequence[int]) -> bool:
    if tool != "strace":
        # It does not say so; it is quick.
        time.sleep(0.5)
        return process.poll() is None
    tracers = (
        re.search(r"^TracerPid:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
        for pid in pids
        for task in Path(f"/proc/{pid}/task").iterdir()
    )
    return all(tracer and int(tracer[1]) == process.pid for tracer in tracers)


class Profile:
    """One server under one load, looked at again and again."""

    def __init__(self, workload: Workload, server: Server, cell: Cell) -> None:
        self.roles = roles_of(server)
        self._workload = workload
        self._server = server
        self._cell = cell

    def load(self, messages: int) -> None:
        goal = self._workload.delivered(self._server) + messages * self._cell.recipients
        self._workload.send(self._server, self._cell, messages)
        await_delivery(self._workload, self._server, goal)

    def system_calls(self, role: str, messages: int) -> Counter[str]:
        """Calls by name of all processes of a role."""
        pids = self.roles[role]
        output = self._server.directory / f"strace-{role}"
        command = ["strace", "-f", "-c", "-o", str(output), *_options("-p", pids)]
        with attached(command, pids, output.with_suffix(".said")):
            self.load(messages)
        calls: Counter[str] = Counter()
        for line in output.read_text().splitlines():
            fields = line.split()
            # % time, seconds, usecs/call, calls, perhaps errors, name
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                calls[fields[-1]] += int(fields[3])
        return calls

    def events(self, role: str, messages: int) -> Counter[str]:
        """What perf counts of all processes of a role; what it cannot count is left out."""
        output = self._server.directory / f"perf-{role}"
        command = ["perf", "stat", "-x", ",", "-e", ",".join(EVENTS), "-o", str(output)]
        command += ["-p", ",".join(map(str, self.roles[role]))]
        with attached(command, self.roles[role], output.with_suffix(".said")):
            self.load(messages)
        counts: Counter[str] = Counter()
        for line in output.read_text().splitlines():
            fields = line.split(",")
            if len(fields) > 2 and fields[0].isdigit():
                counts[fields[2].removeprefix("syscalls:sys_enter_")] = int(fields[0])
        return counts

    def stacks(self, messages: int) -> list[str]:
        """Folded stacks of all workers, each below its role."""
        pids = [pid for pids in self.roles.values() for pid in pids]
        found = py_spy()
        if found is not None:
            return self._stacks_by_py_spy(found, messages)
        output = self._server.directory / "perf.data"
        command = ["perf", "record", "-q", "-g", "-F", str(SAMPLES_PER_SECOND), "-o", str(output)]
        command += ["-p", ",".join(map(str, pids))]
        with attached(command, pids, output.with_suffix(".said")):
            self.load(messages)
        script = subprocess.run(
            ["perf", "script", "-i", output], capture_output=True, text=True, check=True
        )
        return fold(script.stdout)

    def _stacks_by_py_spy(self, command: str, messages: int) -> list[str]:
        """One process at a time, each with a load of its own: py-spy looks at one."""
        stacks = []
        for role, pids in self.roles.items():
            output = self._server.directory / f"py-spy-{role}"
            options = ["--gil", "-n", "-r", str(SAMPLES_PER_SECOND // 5), "-d", "3600"]
            watch = [command, "record", *options, "-f", "raw", "-o", str(output)]
            with attached([*watch, "-p", str(pids[0])], pids, output.with_suffix(".said")):
                self.load(messages)
            stacks += [f"{role};{line}" for line in output.read_text().splitlines()]
        return stacks


def fold(script: str) -> list[str]:
    """The output of `perf script`, folded: a block for each sample, innermost frame first."""
    stacks: Counter[str] = Counter()
    for block in script.split("\n\n"):
        head, _, rest = block.strip().partition("\n")
        frames = [_name(line) for line in rest.splitlines()]
        if head and frames:
            command = re.split(r"\s+\d+", head, maxsplit=1)[0]
            stacks[";".join([command, *reversed(frames)])] += 1
    return [f"{stack} {count}" for stack, count in stacks.items()]


def _name(line: str) -> str:
    """`ffff… do_syscall_64+0x5 ([kernel.kallsyms])` as `do_syscall_64 [k]`."""
    name, _, place = line.strip().partition(" ")[2].rpartition(" (")
    name = name.partition("+")[0] or "[unknown]"
    return f"{name} [k]" if place.startswith("[kernel") else name.replace(";", ":")


def py_spy() -> str | None:
    """Its path: beside this interpreter, or on the PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _options(name: str, values: Sequence[int]) -> list[str]:
    return [text for value in values for text in (name, str(value))]


def table(title: str, counted: dict[str, Counter[str]], messages: int) -> str:
    """Counts a message: a row each, a column for each role, the most frequent first."""
    total: Counter[str] = Counter()
    for counts in counted.values():
        total.update(counts)
    rows = [
        [name, *(f"{counts[name] / messages:.2f}" for counts in counted.values())]
        for name, count in total.most_common()
        if count / messages >= FEWEST_CALLS
    ]
    return markdown_table([title, *counted], rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role", choices=("inbound", "outbound"))
    parser.add_argument("--cell", default="10:1k", help="(%(default)s; see the comparisons)")
    parser.add_argument("--messages", type=int, default=1000, help="a run (%(default)s)")
    parser.add_argument("--flame", type=Path, metavar="FILE.svg", help="write a flame graph there")
    add_server_options(parser)
    options = parser.parse_args()
    options.only = [Pfsmtp.name]
    words = inbound.WORDS if options.role == "inbound" else outbound.WORDS
    try:
        options.cell = Cell.parse(options.cell, words)
    except ValueError as error:
        parser.error(str(error))
    return options


def profile(options: argparse.Namespace, workload: Workload, server: Server) -> None:
    messages = options.messages
    with running(server):
        it = Profile(workload, server, options.cell)
        it.load(max(200, 4 * options.cell.connections))  # a warm-up
        looks: tuple[tuple[str, Callable[[str, int], Counter[str]]], ...] = (
            ("system calls a message", it.system_calls),
            ("events a message", it.events),
        )
        for title, look in looks:
            counted = {role: look(role, messages) for role in it.roles}
            print(f"\n{table(title, counted, messages)}", flush=True)
        if options.flame:
            root = gather(it.stacks(messages))
            title = f"pfsmtp {options.role}, {options.cell}: {root.samples} samples"
            options.flame.write_text(render(root, title))


def main() -> int:
    options = arguments()
    kind = inbound.IntoMaildirs if options.role == "inbound" else outbound.ThroughRelay
    workload: Workload = kind(command=options.pfsmtp, settings=options.settings)
    try:
        bench = Bench(options)
        print(bench)
        print(f"{options.role}, {options.cell}, {options.messages} messages a run")
        profile(options, workload, workload.server(Pfsmtp.name, options.cell, bench.site))
    except (PeerError, RunFailedError, plots.NoPlotsError) as error:
        print(f"profile.py: {error}", file=sys.stderr)
        return 1
    bench.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
