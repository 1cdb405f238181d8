"""Where the test works: a directory of its own beside the real mail, and ports of loopback.

Beside means on the same file system, since what is tested is that disk too. The real directories
are never opened, and nothing is removed but the one directory that was made here.

Whatever stands in the way is `CannotRun`, whose text is for the operator.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

from pfsmtp.config import Config, Inbound, Outbound
from pfsmtp.delivery.maildir.directories import base_of
from pfsmtp.process.errors import ServiceError
from pfsmtp.process.privileges import identity

LOOPBACK = "127.0.0.1"

_PREFIX = "pfsmtp-crashtest-"
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT = 10_000


class CannotRun(Exception):
    """The test cannot begin; the text says why, and what to do."""


class Site:
    """The directory, for the user that the server's workers become."""

    def __init__(self, config: Config, directory: Path | None, *, space: int) -> None:
        """Make it in `directory`, or beside the real mail. Raises CannotRun.

        The mail may take `space` octets.
        """
        real = real_mail(config)
        parent = _beside(real) if directory is None else _apart(directory, real)
        free = shutil.disk_usage(parent).free
        if free < 2 * space:
            raise CannotRun(
                f"{parent}: {free >> 20} MiB are free, and the mail of the test may take"
                f" {space >> 20} MiB; make room, or say less with --space"
            )
        try:
            who = identity(config.user, config.group)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            if who is not None:
                os.chown(self.path, who.user, who.group)
        except ServiceError as error:
            raise CannotRun(str(error)) from error
        except OSError as error:
            raise CannotRun(
                f"{parent}: no directory can be made there ({error.strerror}); run this as the"
                " server's user or as root, or name another place on that disk with --directory"
            ) from error

    def remove(self) -> None:
        """Remove it, with all that is in it."""
        shutil.rmtree(self.path)


def real_mail(config: Config) -> Path:
    """Where the server keeps its mail in earnest."""
    match config:
        case Inbound():
            return base_of(config.local.maildir)
        case Outbound():
            return config.queue.directory


def free_port(random: Random, addresses: Sequence[str] = (LOOPBACK,)) -> int:
    """A port that nobody has at any of these addresses. Raises CannotRun.

    Not one of those that the kernel gives to clients: while the server is dead, the connection of
    a client could get it, or even connect to itself.
    """
    ports = _ports_for_servers()
    for _ in range(200):
        port = random.choice(ports)
        if all(_is_free(address, port) for address in addresses):
            return port
    raise CannotRun("there is no free port on loopback; is something else being tested?")


def _beside(real: Path) -> Path:
    parent = real.parent
    while not parent.is_dir():
        parent = parent.parent
    with suppress(FileNotFoundError):
        if real.stat().st_dev != parent.stat().st_dev:
            raise CannotRun(
                f"{real} is a file system of its own, so that nothing beside it is on the same"
                " disk; name a directory on that disk with --directory"
            )
    return parent


def _apart(directory: Path, real: Path) -> Path:
    """The directory that was named, which must not be among the real mail."""
    if directory.resolve().is_relative_to(real.resolve()):
        raise CannotRun(f"{directory} is where the real mail is; name a directory beside it")
    return directory


def _ports_for_servers() -> Sequence[int]:
    low, high = 32768, 60999
    with suppress(OSError, ValueError):
        low, high = map(int, _PORT_RANGE.read_text().split())
    ports = [*range(_LOWEST_PORT, low), *range(high + 1, 65536)]
    return ports or range(_LOWEST_PORT, 65536)


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as sock, suppress(OSError):
        sock.bind((address, port))
        return True
    return False
