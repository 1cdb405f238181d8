"""The command line: `pfsmtp -c FILE` runs a server.

Exit status: 0 after an orderly stop, 1 when it could not start or failed, 2 for wrong usage.
Only what a command needs is imported: programs wait for `pfsmtp sendmail`.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pfsmtp import __version__

_STDERR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status."""
    options = _parser().parse_args(arguments)
    if options.check:
        return _check(options.config)
    return _serve(options.config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pfsmtp",
        description="A mail server: inbound into Maildirs, or outbound to the mail hosts of the"
        " world, as its configuration says.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, required=True)
    parser.add_argument(
        "--check", action="store_true", help="check the configuration, and run nothing"
    )
    parser.add_argument("--version", action="version", version=f"pfsmtp {__version__}")
    return parser


def _serve(path: Path) -> int:
    _settle()
    from pfsmtp import config as configuration
    from pfsmtp.compose import MailService
    from pfsmtp.log import Log
    from pfsmtp.process.errors import ServiceError
    from pfsmtp.process.master import Master
    from pfsmtp.process.privileges import identity
    from pfsmtp.process.service import Timing
    from pfsmtp.process.systemd import Notifier, listen_fds

    try:
        config = configuration.load(path)
        who = identity(config.user, config.group)
        log = Log(
            _STDERR if config.log.file is None else config.log.file,
            config.log.format,
            owner=(who.user, who.group) if who else None,
        )
    except (configuration.ConfigError, ServiceError, OSError) as error:
        return _fail(str(error))
    notifier = Notifier(os.environ)
    service = MailService(path, log, listen_fds(os.environ, pid=os.getpid()))
    timing = Timing(stop=config.workers.drain, retire=config.limits.session)
    master = Master(service, log, name=config.role, notifier=notifier, timing=timing)
    status = master.run()
    if master.failure:
        _fail(master.failure)
    return status


def _settle() -> None:
    """Depend on nothing that we were started with, and leave no core dumps."""
    from pfsmtp.process.privileges import forbid_inspection

    # Were one of them closed, a client's socket would get its number, and then all that is printed.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    os.umask(0o077)
    forbid_inspection()
    # A crash of compiled code leaves its traceback, in place of a core dump with people's mail.
    faulthandler.enable(_STDERR)


def _check(path: Path) -> int:
    from pfsmtp import config as configuration

    try:
        configuration.load(path)
    except configuration.ConfigError as error:
        return _fail(str(error))
    print(f"{path}: OK")
    return 0


def _fail(text: str) -> int:
    print(f"pfsmtp: {text}", file=sys.stderr)
    return 1
