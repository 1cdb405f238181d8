"""What is sent to the servers: the cells of a table, and the programs that send the load of one.

It is Postfix's smtp-source where that can do it. It speaks no TLS, and sends to one domain only; so
there it is `load.c` beside this file, with the same options and the same dialogue, but for EHLO and
the handshake.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers import DOMAIN, PeerError, Server

UNITS = {"k": 1024, "m": 1024 * 1024}
RUN_SECONDS = 180.0
MOST_MESSAGES = 20_000
MOST_MESSAGES_PER_CONNECTION = 9_000  # pfsmtp closes a connection after 10,000
TEN = 10
RESUMED_SHARE = 0.9  # of the handshakes that could be, at least


class RunFailedError(Exception):
    """A run has no figure: the load was refused, or messages are missing."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One load: written `connections:size`, and words that say how it differs."""

    connections: int
    size: int
    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, words: Collection[str]) -> Cell:
        connections, _, rest = text.partition(":")
        size, *given = rest.split(":")
        if size[-1:] not in UNITS or not set(given) <= set(words):
            known = "".join(f"[:{word}]" for word in words)
            raise ValueError(f"{text!r} is no cell: write 10:1k or 50:100k{known}")
        return cls(int(connections), int(size[:-1]) * UNITS[size[-1]], tuple(given))

    def __str__(self) -> str:
        size = f"{self.size >> 20}m" if self.size % UNITS["m"] == 0 else f"{self.size >> 10}k"
        return ":".join((str(self.connections), size, *self.words))

    @property
    def reuse(self) -> bool:
        """Whether a connection carries many messages."""
        return "reuse" in self.words

    @property
    def recipients(self) -> int:
        """To how many users each message goes; each is a delivery."""
        return TEN if "ten" in self.words else 1

    def most_messages(self) -> int:
        most = MOST_MESSAGES // self.recipients
        if self.reuse:
            return min(most, self.connections * MOST_MESSAGES_PER_CONNECTION)
        return most


def smtp_source(
    server: Server, cell: Cell, messages: int, *, sender: str, recipient: str
) -> list[str]:
    """The command that sends the load of one cell in clear."""
    command = ["smtp-source", "-s", str(cell.connections), "-m", str(messages)]
    # -C: a full listen queue is tried again rather than ending the run.
    command += ["-l", str(cell.size), "-C", "20", "-t", recipient, "-f", sender]
    command += ["-d"] if cell.reuse else []
    # -r: to u@d it becomes 1u@d, 2u@d, and so on.
    command += ["-r", str(cell.recipients)] if cell.recipients > 1 else []
    return [*command, server.address]


def send_over_tls(
    program: Path, server: Server, cell: Cell, messages: int, *, sender: str, recipient: str
) -> None:
    """Send the load of one cell over STARTTLS; `program` is the compiled `load.c`.

    Raises RunFailedError, also where sessions were not resumed that should have been.
    """
    command = _load(program, cell, messages, sender=sender, recipient=recipient)
    resume = "resume" in cell.words
    command += ["-R"] if resume else []
    said = run_load([*command, server.address])
    counts = re.search(r"handshakes=(\d+) resumed=(\d+)", said)
    if counts is None:
        raise RunFailedError(f"{program.name} said: {said[-200:]}")
    handshakes, resumed = map(int, counts.groups())
    # The first of each connection has no session yet.
    if resume and resumed < (handshakes - cell.connections) * RESUMED_SHARE:
        raise RunFailedError(f"only {resumed} of {handshakes} sessions were resumed")


def send_to_many(
    program: Path, server: Server, cell: Cell, messages: int, *, sender: str, domains: int
) -> None:
    """Send the load of one cell in clear, each message to the next of so many domains.

    `program` is the compiled `load.c`. Raises RunFailedError.
    """
    recipient = f"u@d%.{DOMAIN}"
    command = _load(program, cell, messages, sender=sender, recipient=recipient)
    run_load([*command, "-c", "-n", str(domains), server.address])


def _load(program: Path, cell: Cell, messages: int, *, sender: str, recipient: str) -> list[str]:
    command = [str(program), "-s", str(cell.connections), "-m", str(messages)]
    command += ["-l", str(cell.size), "-t", recipient, "-f", sender]
    return command + (["-d"] if cell.reuse else [])


def run_load(command: Sequence[str]) -> str:
    """Run what sends a load; returns what it says. Raises RunFailedError."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RunFailedError(f"{command[0]} ran past {RUN_SECONDS:.0f} s") from error
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace")
        raise RunFailedError(f"{command[0]}: {said.strip()[-200:]}")
    return done.stdout.decode(errors="replace")


def compiled_load(directory: Path) -> Path:
    """The compiled `load.c`, as by `compiled`."""
    return compiled("load.c", directory, libraries=("ssl", "crypto"))


def compiled(source: str, directory: Path, *, libraries: Sequence[str] = ()) -> Path:
    """Compile a C program that lies beside this file, once for a directory. Raises PeerError."""
    program = directory / Path(source).stem
    if program.exists():
        return program
    if shutil.which("cc") is None:
        raise PeerError(f"{source} needs a C compiler: apt install gcc libc6-dev libssl-dev")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-pthread", "-o", str(program)]
    command += [str(Path(__file__).with_name(source)), *(f"-l{name}" for name in libraries)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PeerError(
            f"{source} does not compile (apt install libc6-dev libssl-dev):\n{done.stderr[-500:]}"
        )
    return program
