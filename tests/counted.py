"""A server without a master, whose instructions can be counted: see test_instructions.py.

    python -m tests.counted CONFIGURATION

At an octet on its stdin it forks a worker of each kind, with all that a worker has. Each writes
its pid and a line end to stdout once it serves, takes an octet of stdin, and ends at once. When all
have ended, the next octet starts them anew: what they inherit, the start, is the same each time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from pfsmtp.compose.service import MailService
from pfsmtp.log import Log
from pfsmtp.process.service import Context, Role


def main(path: Path) -> None:
    os.chdir(path.parent)
    generation = MailService(path, Log(path.with_name("log.json"), "json"), ()).load()
    while os.read(0, 1):
        for role in generation.roles:
            if os.fork() == 0:
                serve(role)
        for _ in generation.roles:
            _, status = os.wait()
            if status:
                sys.exit("a worker failed")


def serve(role: Role) -> NoReturn:
    """Be a worker, until told to end."""
    body = role.make(Context(role.name, 0, 1, 1))
    body.start()
    os.write(1, b"%d\n" % os.getpid())
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
