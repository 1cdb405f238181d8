"""Compare how long a program waits for sendmail: from its start to its end, one after the other.

Both servers run, keep what they are handed, and relay it to an smtp-sink each, meanwhile.
Postfix's sendmail has its message on disk in `maildrop`, before its server has looked at it;
pfsmtp's has it in the queue of the server.

A cell is `programs:size`: so many send at the same time. pfsmtp's is `pfsmtp sendmail`, as it is
typed; with `:linked` it is `pfsmtp-sendmail`, which /usr/sbin/sendmail is a link to; with `:python`
what the first becomes where the server has no socket, a program in Python that speaks SMTP.

    bench/sendmail.py                       all cells, five times: some minutes
    bench/sendmail.py --quick               one cell
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from comparison import arguments
from dialogue import message
from loads import Cell
from measure import HostTime
from peers import DOMAIN, PeerError, Postfix, Server, Site, running
from relays import PfsmtpRelay, PostfixRelay
from waits import Comparison, Waits

QUICK = ("1:1k",)
ALL = ("1:1k", "1:100k", "10:1k", "1:1k:linked", "1:1k:python")
SHARES = (0.5, 0.9, 0.99)
WARM_UP = 20  # messages
RECIPIENT = f"u@d0.{DOMAIN}"
NOBODY = "127.0.0.1:1"  # for Python to fail at, which is not to stand in for the front


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
        command = [*shlex.split(pfsmtp), "sendmail"]
        submit = f"{server.directory / 'sendmail'},{NOBODY}"
        if "python" in cell.words:
            submit = server.address
        elif "linked" in cell.words:
            linked = Path(command[0]).with_name("pfsmtp-sendmail")
            if not linked.exists():
                raise PeerError(f"{linked} is missing: install pfsmtp, or name it with --pfsmtp")
            command = [str(linked)]
        return cls([*command, *arguments], {**os.environ, "PFSMTP_SUBMIT": submit})

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


def server_for(name: str, cell: Cell, site: Site, *, pfsmtp: str, settings: str) -> Server:
    directory, certificate = site.fresh(name), site.certificate()
    if name == Postfix.name:
        return PostfixRelay(directory, certificate, destinations=[RECIPIENT.partition("@")[2]])
    return Handed(directory, certificate, command=pfsmtp, settings=settings)


def measure(server: Server, program: Program, cell: Cell, seconds: float) -> Waits:
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
        took = list(chain(*pool.map(send_for, [seconds] * cell.connections)))
    elapsed = time.perf_counter() - began
    os.close(file)
    return Waits(took, elapsed, HostTime.now().steal_since(host))


def main() -> int:
    options = arguments(__doc__, cells=ALL, quick=QUICK, words=("linked", "python"))

    def run(name: str, cell: Cell, site: Site) -> Waits:
        server = server_for(name, cell, site, pfsmtp=options.pfsmtp, settings=options.settings)
        with running(server):
            program = Program.of(server, cell, pfsmtp=options.pfsmtp)
            return measure(server, program, cell, options.seconds)

    return Comparison("sendmail.py", "time of a sendmail", SHARES, SHARES[:1], run).run(options)


if __name__ == "__main__":
    sys.exit(main())
