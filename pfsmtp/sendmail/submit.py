"""The dialogue with the outbound server: one message, to all recipients or to none.

Whatever keeps the server from taking the message is a `Failure` whose status tells the program
whether to try again: EX_TEMPFAIL when the server cannot be reached, breaks off or says 4yz.

RFC 5321; PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), DSN
(RFC 3461), each where the server offers it.
"""

from __future__ import annotations

import os

# `socket` imports selectors and enum, which take longer than all that is done here.
from _socket import AF_INET, AF_INET6, SOCK_STREAM, socket

from pfsmtp.sendmail.failure import Failure

TYPE_CHECKING = False  # as typing has it, which is dear to import
if TYPE_CHECKING:
    from typing import Protocol

    class Connection(Protocol):
        """What the dialogue goes over: a socket, or the server itself in the same process."""

        def sendall(self, octets: bytes, /) -> None: ...
        def recv(self, most: int, /) -> bytes: ...
        def settimeout(self, seconds: float | None, /) -> None: ...


CONNECT_SECONDS = 10.0
REPLY_SECONDS = 300.0
FINAL_SECONDS = 600.0  # RFC 5321 §4.5.3.2.6: shorter makes duplicates
LONGEST_REPLY = 64 * 1024

# RFC 3463: what a status means to a program, by subject and detail; detail None is for the others.
_MEANINGS: dict[tuple[str, str | None], int] = {
    ("1", "2"): os.EX_NOHOST,
    ("1", None): os.EX_NOUSER,
    ("2", "3"): os.EX_DATAERR,
    ("2", None): os.EX_NOUSER,
    ("3", "4"): os.EX_DATAERR,
    ("4", None): os.EX_NOHOST,
    ("5", None): os.EX_PROTOCOL,
    ("6", None): os.EX_DATAERR,
    ("7", None): os.EX_NOPERM,
}


class Submission:
    """What is to be submitted: the envelope, and the message as it follows DATA."""

    def __init__(self, sender: str, recipients: list[str], data: bytes) -> None:
        self.sender = sender  # "" is the null path
        self.recipients = recipients
        self.data = data
        self.eight_bit = not data.isascii()
        self.notify: str | None = None
        self.returning: str | None = None
        self.envelope_id: str | None = None

    @property
    def needs_smtputf8(self) -> bool:
        return not (self.sender.isascii() and all(map(str.isascii, self.recipients)))


def connect(servers: tuple[tuple[str, int], ...]) -> socket:
    """Return a connection to the first server that listens. Raises Failure."""
    reasons = []
    for host, port in servers:
        connection = socket(AF_INET6 if ":" in host else AF_INET, SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect((host, port))
        except OSError as error:
            connection.close()
            reasons.append(f"{host} port {port}: {error.strerror or error}")
            continue
        connection.settimeout(REPLY_SECONDS)
        return connection
    raise Failure(os.EX_TEMPFAIL, f"the mail server cannot be reached ({'; '.join(reasons)})")


def submit(connection: Connection, submission: Submission, *, verbose: bool) -> str:
    """Hand the message over; returns what the server said to it. Raises Failure.

    `verbose` shows the dialogue on stdout, as sendmail(8) does.
    """
    dialogue = _Dialogue(connection, verbose=verbose)
    try:
        return _submit(dialogue, submission)
    except OSError as error:
        raise Failure(
            os.EX_TEMPFAIL, f"the mail server broke off: {error.strerror or error}"
        ) from error


def _submit(dialogue: _Dialogue, submission: Submission) -> str:
    dialogue.expect("2", "The server")
    dialogue.send("EHLO localhost")
    offered = _extensions(dialogue.expect("2", "EHLO"))
    _send_envelope(dialogue, submission, offered)
    dialogue.send("DATA")
    dialogue.expect("3", "DATA")
    dialogue.send_data(submission.data)
    dialogue.wait(FINAL_SECONDS)
    said = dialogue.expect("2", "The message")
    dialogue.send("QUIT")
    return said[-1]


def _send_envelope(dialogue: _Dialogue, submission: Submission, offered: dict[str, str]) -> None:
    """Say MAIL and RCPT. Raises Failure when the sender, or any recipient, is refused."""
    mail, rcpts = _mail(submission, offered), _rcpts(submission, offered)
    pipelining = "PIPELINING" in offered
    dialogue.send(mail, *(rcpts if pipelining else ()))
    dialogue.expect("2", submission.sender or "<>")
    refusals = []
    for address, rcpt in zip(submission.recipients, rcpts, strict=True):
        if not pipelining:
            dialogue.send(rcpt)
        reply = dialogue.reply()
        if not reply[-1].startswith("2"):
            refusals.append(refusal(reply, address))
    if refusals:
        # One that is refused for good will not do better the next time, whatever the others do.
        final = [failure for failure in refusals if failure.status != os.EX_TEMPFAIL]
        text = "; ".join([failure.text for failure in refusals])
        raise Failure((final or refusals)[0].status, text)


def refusal(reply: list[str], subject: str) -> Failure:
    """Return the Failure that a reply of 4yz or 5yz to something means to a program."""
    text = f"{subject}: {' / '.join(reply)}"
    last = reply[-1]
    if last.startswith("4"):
        return Failure(os.EX_TEMPFAIL, text)
    if not last.startswith("5"):
        return Failure(os.EX_PROTOCOL, text)
    # RFC 2034 §4: the status follows the code.
    status = last[4:].split(" ", 1)[0].split(".")
    if len(status) != 3:
        return Failure(os.EX_UNAVAILABLE, text)
    meaning = _MEANINGS.get((status[1], status[2])) or _MEANINGS.get((status[1], None))
    return Failure(meaning or os.EX_UNAVAILABLE, text)


def _extensions(reply: list[str]) -> dict[str, str]:
    """Return the keywords that EHLO was answered with, each with what follows it."""
    words = [line[4:].partition(" ") for line in reply[1:]]
    return {keyword.upper(): rest for keyword, _, rest in words}


def _mail(submission: Submission, offered: dict[str, str]) -> str:
    command = f"MAIL FROM:<{_path(submission.sender)}>"
    if "SIZE" in offered:
        command += f" SIZE={len(submission.data)}"
    if submission.eight_bit and "8BITMIME" in offered:
        command += " BODY=8BITMIME"
    if submission.needs_smtputf8:
        if "SMTPUTF8" not in offered:
            raise Failure(os.EX_DATAERR, "the mail server takes only ASCII in addresses")
        command += " SMTPUTF8"
    if "DSN" in offered:
        if submission.returning is not None:
            command += f" RET={submission.returning}"
        if submission.envelope_id is not None:
            command += f" ENVID={_xtext(submission.envelope_id)}"
    return command


def _rcpts(submission: Submission, offered: dict[str, str]) -> list[str]:
    # RFC 9422 §4.2: RCPTMAX is the most recipients that one message may have.
    for limit in offered.get("LIMITS", "").split():
        name, _, most = limit.partition("=")
        if name == "RCPTMAX" and most.isdecimal() and len(submission.recipients) > int(most):
            raise Failure(os.EX_DATAERR, f"a message may have {most} recipients, and no more")
    notify = ""
    if submission.notify is not None and "DSN" in offered:
        notify = f" NOTIFY={submission.notify}"
    return [f"RCPT TO:<{_path(address)}>{notify}" for address in submission.recipients]


def _path(address: str) -> str:
    """Return an address fit to stand between brackets: one that ended them would be a command."""
    if not address.isprintable() or (not address.startswith('"') and set("<> ") & set(address)):
        raise Failure(os.EX_DATAERR, f"{address!r} is not an address")
    return address


def _xtext(text: str) -> str:
    # RFC 3461 §4: xtext
    octets = text.encode("utf-8", "surrogateescape")
    plain = [33 <= octet <= 126 and octet not in b"+=" for octet in octets]
    pairs = zip(octets, plain, strict=True)
    return "".join([chr(octet) if keep else f"+{octet:02X}" for octet, keep in pairs])


class _Dialogue:
    """Commands out, replies in, over a connection. Raises OSError and Failure."""

    def __init__(self, connection: Connection, *, verbose: bool) -> None:
        self._connection = connection
        self._verbose = verbose
        self._received = b""

    def send(self, *commands: str) -> None:
        for command in commands:
            self._note(f">>> {command}")
        text = "".join([f"{command}\r\n" for command in commands])
        self._connection.sendall(text.encode("utf-8", "surrogateescape"))

    def send_data(self, data: bytes) -> None:
        """Send the message. A server that refuses it half-way is heard all the same."""
        self._connection.settimeout(REPLY_SECONDS)
        try:
            self._connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self._note("*** the server stopped reading")

    def wait(self, seconds: float) -> None:
        """Set how long a reply may take from now on."""
        self._connection.settimeout(seconds)

    def expect(self, digit: str, subject: str) -> list[str]:
        """Return the reply if its code starts with this digit, else raise Failure."""
        reply = self.reply()
        if not reply[-1].startswith(digit):
            raise refusal(reply, subject)
        return reply

    def reply(self) -> list[str]:
        """Return the lines of the next reply, without line ends (RFC 5321 §4.2.1)."""
        lines = []
        while True:
            line = self._line()
            self._note(f"<<< {line}")
            lines.append(line)
            if not (len(line) >= 3 and line[:3].isdecimal()) or len(lines) > LONGEST_REPLY // 80:
                raise Failure(os.EX_PROTOCOL, f"the mail server said {line[:80]!r}")
            if line[3:4] != "-":
                return lines

    def _note(self, line: str) -> None:
        if self._verbose:
            print(line, flush=True)

    def _line(self) -> str:
        while b"\n" not in self._received:
            piece = self._connection.recv(4096)
            if not piece:
                raise OSError("it closed the connection")
            self._received += piece
            if len(self._received) > LONGEST_REPLY:
                raise Failure(os.EX_PROTOCOL, "the mail server said an endless line")
        line, _, self._received = self._received.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")
