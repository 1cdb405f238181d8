"""The command line: `pfsmtp -c FILE` runs a server.

`pfsmtp` is compiled (ext/front.c). It hands a message over without Python where it can, and
everything else is for the script `pfsmtp-python` beside it, which comes here:

    pfsmtp -c FILE                 run it
    pfsmtp -c FILE --check         check the configuration
    pfsmtp -c FILE queue …         see and steer what waits in the outbound queue
    pfsmtp -c FILE crashtest …     kill the server again and again, and see that nothing is lost
    pfsmtp [-c FILE] sendmail …    hand a message to the outbound server

Exit status: 0 after an orderly stop, 1 when it could not start or failed, 2 for wrong usage;
`sendmail` has those of sysexits.h. Only what a command needs is imported: programs may have to wait
for `sendmail`, so that above it stands next to nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing has it, which is dear to import
if TYPE_CHECKING:
    import argparse
    from pathlib import Path

_STDERR = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line, and return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    for_sendmail = _sendmail_arguments(given)
    if for_sendmail is not None:
        from pfsmtp.sendmail import command as sendmail

        return sendmail.main(["sendmail", *for_sendmail])
    parser = _parser(given)
    options = parser.parse_args(given)
    if options.command == "sendmail":
        parser.error("sendmail comes first, or right after -c FILE")
    if options.command == "queue":
        from pfsmtp.operator import command as queue

        return queue.main(options.config, options)
    if options.command == "crashtest":
        from pfsmtp.crashtest import command as crashtest

        return crashtest.main(options.config, options)
    if options.check:
        return _check(options.config)
    return _serve(options.config)


def _sendmail_arguments(given: list[str]) -> list[str] | None:
    """What `sendmail` is to be given, if that is the command; `-c FILE` is its `-C FILE`."""
    match given:
        case ["sendmail", *rest]:
            return rest
        case ["-c" | "--config", path, "sendmail", *rest]:
            return ["-C", path, *rest]
        case [option, "sendmail", *rest] if option.startswith("--config="):
            return ["-C", option.removeprefix("--config="), *rest]
        case [option, "sendmail", *rest] if option.startswith("-c") and len(option) > 2:
            return ["-C", option[2:], *rest]
    return None


def _parser(given: list[str]) -> argparse.ArgumentParser:
    """The parser for this command line: of the commands, only those in it have their options."""
    import argparse
    from pathlib import Path

    from pfsmtp import __version__

    parser = argparse.ArgumentParser(
        prog="pfsmtp",
        usage="%(prog)s -c FILE [--check] [COMMAND ...]",
        description="A mail server: inbound into Maildirs, or outbound to the mail hosts of the"
        " world, as its configuration says. Without a command the server runs.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, required=True)
    parser.add_argument(
        "--check", action="store_true", help="check the configuration, and run nothing"
    )
    parser.add_argument("--version", action="version", version=f"pfsmtp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="pfsmtp -c FILE")
    queue = commands.add_parser("queue", help="see and steer what waits in the queue")
    if "queue" in given:
        from pfsmtp.operator.arguments import add_to as add_queue

        add_queue(queue)
    crashtest = commands.add_parser("crashtest", help="kill the server, and count what is lost")
    if "crashtest" in given:
        from pfsmtp.crashtest.arguments import add_to as add_crashtest

        add_crashtest(crashtest)
    commands.add_parser("sendmail", help="send a message as sendmail(8); -c is not required")
    return parser


def _serve(path: Path) -> int:
    import gc

    _settle()
    gc.disable()  # for the imports: nothing of them is garbage, and it takes time to find that out
    from pfsmtp import config as configuration
    from pfsmtp.compose import MailService
    from pfsmtp.log import Log
    from pfsmtp.process.errors import ServiceError
    from pfsmtp.process.master import Master
    from pfsmtp.process.privileges import identity
    from pfsmtp.process.service import Timing
    from pfsmtp.process.systemd import Notifier, listen_fds

    gc.enable()
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
    import faulthandler
    import resource

    from pfsmtp.process.privileges import forbid_inspection

    # Were one of them closed, a client's socket would get its number, and then all that is printed.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    os.umask(0o077)
    # A connection is a descriptor, and a message to many users is two for each.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    forbid_inspection()
    # A crash of compiled code leaves its traceback, in place of a core dump with people's mail.
    faulthandler.enable(_STDERR)


def _check(path: Path) -> int:
    from pfsmtp.compose import check
    from pfsmtp.log import Log
    from pfsmtp.process.errors import ServiceError

    try:
        check(path, Log(_STDERR))
    except ServiceError as error:
        return _fail(str(error))
    print(f"{path}: OK")
    return 0


def _fail(text: str) -> int:
    print(f"pfsmtp: {text}", file=sys.stderr)
    return 1
