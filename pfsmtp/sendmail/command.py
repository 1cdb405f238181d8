"""From the command line to the exit status.

Exit statuses are those of sysexits.h, which programs that call sendmail(8) know: 0 the server has
the message; 64 the command line is wrong; 65 the message or an address; 67 no such user; 68 no such
host; 75 try again later; 77 not allowed; 78 the configuration.
"""

from __future__ import annotations

import os
import pwd
import sys
from _socket import SHUT_WR, socket
from select import POLLIN, poll

from pfsmtp.sendmail.addresses import split_addresses
from pfsmtp.sendmail.failure import Failure
from pfsmtp.sendmail.message import Message, read_message
from pfsmtp.sendmail.options import Options, parse
from pfsmtp.sendmail.site import Site, config_path, find
from pfsmtp.sendmail.submit import FINAL_SECONDS, Submission, connect, submit

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
    recipients = [address for text in options.recipients for address in split_addresses(text)]
    if not recipients and not options.recipients_in_header:
        raise Failure(
            os.EX_USAGE, "no recipients: name some, or have -t look for them in the header"
        )
    message = Message(_read_stdin(options))
    if options.recipients_in_header:
        recipients += message.recipients()
        message.hide_recipients()
        if not recipients:
            raise Failure(os.EX_DATAERR, "the header has no recipients")
    user = _user()
    sender = _sender(options, site, user)
    message.add_from(
        sender or _complete(user, site),
        _full_name() if options.full_name is None else options.full_name,
    )
    # Twice the same address would be twice the same mail.
    complete = list(dict.fromkeys(_complete(address, site) for address in recipients))
    submission = Submission(sender, complete, message.on_the_wire())
    submission.eight_bit |= options.eight_bit
    submission.notify = options.notify
    submission.returning = options.returning
    submission.envelope_id = options.envelope_id
    connection = connect(site.servers)
    submit(connection, submission, verbose=options.verbose)
    connection.close()


def _read_stdin(options: Options) -> bytes:
    try:
        with open(0, "rb", closefd=False) as stdin:
            return read_message(stdin, dot_ends=options.dot_ends)
    except OSError as error:
        raise Failure(os.EX_IOERR, f"stdin cannot be read: {error.strerror}") from error


def _sender(options: Options, site: Site, user: str) -> str:
    """Return the reverse-path: -f, else the user who runs this."""
    if options.sender is None:
        return _complete(user, site)
    given = split_addresses(options.sender)
    return _complete(given[0], site) if given else ""


def _complete(address: str, site: Site) -> str:
    """Give an address without a domain the one of this machine."""
    return address if "@" in address else f"{address}@{site.domain}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("LOGNAME") or f"uid{os.getuid()}"


def _full_name() -> str:
    """Return the name of the user, as the environment's NAME or the user database has it."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return os.environ.get("NAME", "")
    # passwd(5): the name goes up to a comma; & stands for the login.
    name = entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())
    return os.environ.get("NAME") or name


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
