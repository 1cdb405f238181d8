"""From the command line to the exit status.

Exit statuses are those of sysexits.h, which programs that call sendmail(8) know: 0 the server has
the message; 64 the command line is wrong; 65 the message or an address; 67 no such user; 68 no such
host; 75 try again later; 77 not allowed; 78 the configuration.
"""

from __future__ import annotations

import os
import sys
from _socket import SHUT_WR, socket
from select import POLLIN, poll

from pfsmtp.sendmail.failure import Failure
from pfsmtp.sendmail.message import read_message
from pfsmtp.sendmail.options import Options, parse
from pfsmtp.sendmail.preparation import named_recipients, prepare
from pfsmtp.sendmail.site import config_path, find
from pfsmtp.sendmail.submit import FINAL_SECONDS, connect, submit
from pfsmtp.sendmail.user import this_user

PIECE = 64 * 1024


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says, the program's name first; returns the exit status."""
    try:
        options = parse(sys.argv if argv is None else argv)
        match options.mode:
            case "submit":
                _submit_message(options)
            case "smtp":
                _speak_smtp(options)
            case "list":
                _queue_command(options, "list")
            case "run":
                _queue_command(options, "retry", *_selection(options.run))
    except Failure as failure:
        print(f"sendmail: {failure.text}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        print("sendmail: interrupted, nothing was sent", file=sys.stderr)
        return os.EX_TEMPFAIL
    return os.EX_OK


def _submit_message(options: Options) -> None:
    """Read a message from stdin and hand it to the server."""
    site = find(options.config, dict(os.environ))
    named_recipients(options)  # before anybody types a message in vain
    octets = _read_stdin(options)
    submission = prepare(options, octets, user=this_user(), domain=site.domain)
    connection = connect(site.servers)
    submit(connection, submission, verbose=options.verbose)
    connection.close()


def _read_stdin(options: Options) -> bytes:
    try:
        with open(0, "rb", closefd=False) as stdin:
            return read_message(stdin, dot_ends=options.dot_ends)
    except OSError as error:
        raise Failure(os.EX_IOERR, f"stdin cannot be read: {error.strerror}") from error


def _speak_smtp(options: Options) -> None:
    """Carry a program's SMTP between stdin, stdout and the server, to the end of both."""
    site = find(options.config, dict(os.environ))
    try:
        connection = connect(site.servers)
    except Failure:
        os.write(1, b"421 4.3.2 The mail server is not running, try again later\r\n")
        raise
    connection.settimeout(None)
    try:
        _carry(connection)
    except OSError as error:
        raise Failure(os.EX_TEMPFAIL, f"the mail server broke off: {error.strerror}") from error
    connection.close()


def _carry(connection: socket) -> None:
    waiting = poll()
    waiting.register(connection.fileno(), POLLIN)
    waiting.register(0, POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in waiting.poll(FINAL_SECONDS * 1000)]
        if not ready:
            raise Failure(os.EX_TEMPFAIL, f"nothing was said for {FINAL_SECONDS:.0f} seconds")
        if connection.fileno() in ready:
            piece = connection.recv(PIECE)
            if not piece:
                return
            _write_out(piece)
        if 0 in ready:
            piece = os.read(0, PIECE)
            if piece:
                connection.sendall(piece)
            else:
                waiting.unregister(0)
                connection.shutdown(SHUT_WR)


def _write_out(octets: bytes) -> None:
    while octets:
        octets = octets[os.write(1, octets) :]


def _selection(run: str) -> tuple[str, ...]:
    """Return what `queue retry` is given for -q, -qIid and -qRdomain; -q30m is for daemons."""
    if run.startswith("I"):
        return (run[1:],)
    if run.startswith("R"):
        return ("--destination", run[1:])
    return ("--all",)


def _queue_command(options: Options, *words: str) -> None:
    """Become `pfsmtp -c FILE queue …`."""
    path = config_path(options.config)
    if path is None:
        raise Failure(os.EX_CONFIG, "which configuration? Give it with -C FILE")
    beside = os.path.join(os.path.dirname(sys.executable), "pfsmtp")
    program = beside if os.access(beside, os.X_OK) else "pfsmtp"
    sys.stdout.flush()
    try:
        os.execvp(program, ["pfsmtp", "-c", path, "queue", *words])
    except OSError as error:
        raise Failure(os.EX_OSFILE, f"{program}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
