"""Compare how long a program waits for sendmail: from its start to its end, one after the other.

Both servers run, keep what they are handed, and relay it to an smtp-sink each, meanwhile.
Postfix's sendmail has its message on disk in `maildrop`, before its server has looked at it;
pfsmtp's has it in the queue of the server.

A cell is `programs:size`: so many send at the same time. With `:python`, pfsmtp's is the one in
Python that goes by SMTP, as where the server has no socket.

    bench/sendmail.py                       all cells, five times: some minutes
    bench/sendmail.py --quick               one cell
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import plots
from comparison import NAMES, Cell, arguments, describe, leave_site, open_site, versions
from dialogue import message
from latency import share_of
from measure import HostTime, Machine, markdown_table
from peers import DOMAIN, PeerError, Postfix, Server, Site, running
from relays import PfsmtpRelay, PostfixRelay

QUICK = ("1:1k",)
ALL = ("1:1k", "1:100k", "10:1k", "1:1k:python")
SHARES = (0.5, 0.9, 0.99)
WARM_UP = 20  # messages
RECIPIENT = f"u@d0.{DOMAIN}"


class Handed(PfsmtpRelay):
    """The outbound server with a socket."""

    def _socket(self) -> str:
        return 'sendmail = "sendmail"\n'


@dataclass(frozen=True, slots=True)
class Program:
    """A sendmail: its command line and its environment."""

    command: list[str]
    environment: dict[str, str]

    @classmethod
    def of(cls, server: Server, cell: Cell, *, pfsmtp: str) -> Program:
        """The one that hands over to this server; `pfsmtp` is the command that was started."""
        arguments = ["-i", "-f", f"load@{DOMAIN}", RECIPIENT]
        if isinstance(server, PostfixRelay):
            conf = server.directory / "conf"
            return cls(["/usr/sbin/sendmail", "-C", str(conf), *arguments], dict(os.environ))
        if "python" in cell.words:
            environment = {**os.environ, "PFSMTP_SUBMIT": server.address}
            return cls([*shlex.split(pfsmtp), "sendmail", *arguments], environment)
        front = Path(shlex.split(pfsmtp)[0]).with_name("pfsmtp-sendmail")
        if not front.exists():
            raise PeerError(f"{front} is missing: install pfsmtp, or name it with --pfsmtp")
        environment = {**os.environ, "PFSMTP_SUBMIT": str(server.directory / "sendmail")}
        return cls([str(front), *arguments], environment)

    def run(self, file: int) -> float:
        """Run it with this message; returns how many seconds it took."""
        stdin = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
        began = time.perf_counter()
        pid = os.posix_spawnp(
            self.command[0],
            self.command,
            self.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0)],
        )
        _, status = os.waitpid(pid, 0)
        took = time.perf_counter() - began
        os.close(stdin)
        if status:
            raise PeerError(f"`{shlex.join(self.command)}` failed with {status}")
        return took


@dataclass(frozen=True, slots=True)
class Run:
    """One server under one load: how long programs took, in milliseconds."""

    cell: str
    server: str
    repeat: int
    messages: int
    rate: float  # messages a second
    shares: list[float]  # as many milliseconds or less were enough for each of `SHARES`
    steal: float


def server_for(name: str, cell: Cell, site: Site, *, pfsmtp: str, settings: str) -> Server:
    directory, certificate = site.fresh(name), site.certificate()
    if name == Postfix.name:
        return PostfixRelay(directory, certificate, destinations=[RECIPIENT.partition("@")[2]])
    return Handed(directory, certificate, command=pfsmtp, settings=settings)


def measure(server: Server, program: Program, cell: Cell, seconds: float, *, repeat: int) -> Run:
    file = os.memfd_create("message")
    os.write(file, message(cell.size).replace(b"\r\n", b"\n"))

    def send_for(seconds: float) -> list[float]:
        ends = time.perf_counter() + seconds
        took = []
        while time.perf_counter() < ends:
            took.append(program.run(file))
        return took

    for _ in range(WARM_UP):
        program.run(file)
    host, began = HostTime.now(), time.perf_counter()
    with ThreadPoolExecutor(cell.connections) as pool:
        took = sorted(chain(*pool.map(send_for, [seconds] * cell.connections)))
    elapsed = time.perf_counter() - began
    os.close(file)
    return Run(
        cell=str(cell),
        server=server.name,
        repeat=repeat,
        messages=len(took),
        rate=len(took) / elapsed,
        shares=[share_of(took, share) * 1000 for share in SHARES],
        steal=HostTime.now().steal_since(host),
    )


def table(runs: list[Run], cells: list[Cell]) -> str:
    """A row for each cell and server, medians of the runs; and pfsmtp's in Postfix's."""
    header = ["cell", "server", "messages/s", *(f"p{share * 100:g} ms" for share in SHARES)]
    rows = []
    for cell in cells:
        medians = {}
        for name in NAMES:
            of_server = [run for run in runs if run.cell == str(cell) and run.server == name]
            if not of_server:
                continue
            medians[name] = [
                statistics.median(run.shares[place] for run in of_server)
                for place in range(len(SHARES))
            ]
            rate = statistics.median(run.rate for run in of_server)
            shares = [f"{value:.2f}" for value in medians[name]]
            steal = f"{max(run.steal for run in of_server):.1%}"
            rows.append([str(cell), name, f"{rate:.0f}", *shares, steal])
        if len(medians) == len(NAMES):
            theirs, ours = (medians[name] for name in NAMES)
            ratios = [f"{our / their:.2f}" for our, their in zip(ours, theirs, strict=True)]
            rows.append(["", "ratio", "", *ratios, ""])
    return markdown_table([*header, "steal"], rows)


def plot(path: Path, runs: list[Run]) -> None:
    """A group of bars for each cell, a bar for each server."""
    cells = list(dict.fromkeys(run.cell for run in runs))
    series = {
        name: [
            statistics.median(
                run.shares[0] for run in runs if run.cell == cell and run.server == name
            )
            for cell in cells
        ]
        for name in dict.fromkeys(run.server for run in runs)
    }
    plots.bars(path, cells, series, title="time of a sendmail", up="ms")


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=("python",))
    runs: list[Run] = []

    def run(name: str, cell: Cell, site: Site, repeat: int) -> None:
        server = server_for(name, cell, site, pfsmtp=options.pfsmtp, settings=options.settings)
        with running(server):
            program = Program.of(server, cell, pfsmtp=options.pfsmtp)
            runs.append(measure(server, program, cell, options.seconds, repeat=repeat))
        shares = " ".join(f"{value:.2f}" for value in runs[-1].shares)
        print(f"  {cell!s:12} {name:8} {runs[-1].rate:7.0f}/s  {shares} ms", file=sys.stderr)

    try:
        plots.check(options.plot)
        known = versions(options)
        site = open_site(options.directory)
        machine = Machine.describe(site.root)
        for cell in options.cells:
            for repeat in range(options.repeats):
                for name in options.only if repeat % 2 == 0 else reversed(options.only):
                    run(name, cell, site, repeat)
    except (PeerError, plots.NoPlotsError) as error:
        print(f"sendmail.py: {error}", file=sys.stderr)
        return 1
    print(f"\n{describe(machine, known, options)}")
    print(f"medians of {options.repeats} alternating runs\n\n{table(runs, options.cells)}")
    if options.json:
        figures = {"machine": machine.as_dict(), "versions": known, "settings": options.settings}
        text = json.dumps({**figures, "runs": [asdict(run) for run in runs]}, indent=1)
        options.json.write_text(text + "\n")
    if options.plot:
        plot(options.plot, runs)
    leave_site(site, keep=options.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
