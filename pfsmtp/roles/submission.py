"""A message that a program of this machine hands over at the outbound server's socket.

The other end is the compiled front of sendmail(8), ext/front.c; `sendmail/request.py` has what
the two say to each other. A submission is one request and one answer. What is to be done with the
message is sendmail's; whether it is taken is for the dialogue to say that every client has, and
that is held here without a connection. So the limits, the replies, the log and what is on disk
before the answer are those of a message that comes by SMTP.

Who asks may be anybody on this machine. He is known by what the kernel says of him, which is only
logged: he may name any sender, as by SMTP. His request has to be there at once, and what it refers
to is read at our pace. A request that is no request, or too large, is answered `ELSEWHERE`.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress

from pfsmtp.log import Log
from pfsmtp.sendmail import request
from pfsmtp.sendmail.failure import Failure
from pfsmtp.sendmail.message import with_line_feeds
from pfsmtp.sendmail.options import parse
from pfsmtp.sendmail.preparation import prepare
from pfsmtp.sendmail.request import NotHere, Request
from pfsmtp.sendmail.submit import submit
from pfsmtp.smtp.ports import Peer
from pfsmtp.smtp.reply import Reply
from pfsmtp.smtp.server import Dialogue, Need
from pfsmtp.smtp.session import Server, Session

REQUEST_SECONDS = 10.0
"""In which a request has to come; the front connects when it has all of it."""

_AT_ONCE = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_CREDENTIALS = struct.Struct("=iII")  # struct ucred, unix(7)
_ADDRESS = "127.0.0.1"  # where a program would come from by SMTP
_FAULT = Failure(os.EX_TEMPFAIL, "an internal error of the mail server; try again later")


class Submissions:
    """Takes what comes at the socket of a worker."""

    def __init__(self, server: Server, *, domain: str, patience: float = REQUEST_SECONDS) -> None:
        """`domain` completes addresses without one."""
        self._server = server
        self._domain = domain
        self._patience = patience

    def accept(self, fd: int, log: Log) -> Submission:
        """Take a connection over; it is closed when the submission has been served."""
        return Submission(fd, self._server, log, domain=self._domain, patience=self._patience)

    def turn_away(self, fd: int, reply: Reply) -> None:
        """Close a connection that cannot be served at present."""
        with suppress(OSError), socket.socket(fileno=fd) as connection:
            text = f"the mail server: {reply.lines[0]}"
            connection.send(request.answer(Failure(os.EX_TEMPFAIL, text)), _AT_ONCE)


class Submission:
    """One request, from its connection to its answer."""

    def __init__(self, fd: int, server: Server, log: Log, *, domain: str, patience: float) -> None:
        self.accepted = 0
        """Messages that are safe."""
        self._fd = fd
        self._server = server
        self._log = log
        self._domain = domain
        self._patience = patience

    def serve(self) -> None:
        """Hear, do, answer and close. Never raises."""
        try:
            with socket.socket(fileno=self._fd) as connection:
                connection.settimeout(self._patience)
                self._serve(connection)
        except OSError as error:
            self._log.event("submission-lost", reason=error.strerror or str(error))
        except Exception as error:
            self._log.bug("submission-bug", error)

    def drain(self) -> None:
        """It ends by itself, and soon."""

    def _serve(self, connection: socket.socket) -> None:
        process, user, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        log = self._log.bind(user=user, process=process)
        try:
            answer = self._answer(_receive(connection, user), log)
        except NotHere as reason:
            log.event("submission-declined", reason=str(reason))
            answer = request.ELSEWHERE
        except OSError:
            raise
        except Exception as error:
            log.bug("submission-bug", error)
            answer = request.answer(_FAULT)
        connection.send(answer, _AT_ONCE)

    def _answer(self, asked: Request, log: Log) -> bytes:
        """Have the message taken, or say why it is not. Raises NotHere."""
        failure = None
        session = Session(self._server, Peer(_ADDRESS, 0, _ADDRESS, loopback=True), log)
        dialogue = OwnDialogue(session)
        try:
            options = parse(asked.argv)
            if options.mode != "submit" or options.verbose or options.config is not None:
                raise NotHere("it is for a program with a terminal, or for another server")
            octets = with_line_feeds(asked.octets)
            submission = prepare(options, octets, user=asked.user, domain=self._domain)
            submit(dialogue, submission, verbose=False)
        except Failure as refused:
            failure = refused
            log.event("submission-refused", status=refused.status, reason=refused.text)
        finally:
            dialogue.close()
            self.accepted = session.accepted
        return request.answer(failure)


class OwnDialogue:
    """A dialogue with this server, as a connection: `sendmail.submit.Connection`."""

    def __init__(self, session: Session) -> None:
        self._dialogue = Dialogue(session)
        self._dialogue.start()

    def sendall(self, octets: bytes) -> None:
        dialogue = self._dialogue
        dialogue.input.feed(octets)
        while dialogue.advance() is Need.SEND:
            pass

    def recv(self, most: int) -> bytes:
        """All that has been answered: replies wait for whoever submits, who reads them all."""
        return self._dialogue.take_output()

    def settimeout(self, seconds: float | None) -> None:
        """Nobody has to be waited for."""

    def close(self) -> None:
        self._dialogue.close()


def _receive(connection: socket.socket, user: int) -> Request:
    """Wait for a request, and read it. Raises NotHere, OSError."""
    packet, files, _, _ = socket.recv_fds(
        connection, request.PACKET.size + 1, 1, socket.MSG_CMSG_CLOEXEC
    )
    if not packet and not files:
        raise ConnectionAbortedError("it went without a request")
    try:
        if not files:
            raise NotHere("no file came with it")
        return _read(packet, files[0], user)
    finally:
        for file in files:
            os.close(file)


def _read(packet: bytes, file: int, user: int) -> Request:
    """Read the file that came with a request."""
    try:
        seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0  # whatever it is, it is no file in memory
    # One that could still change, or shrink, would be another one when it is read again. Files
    # with seals are in memory: reading one waits for nobody.
    if seals & _SEALED != _SEALED:
        raise NotHere("its file is not sealed")
    strings, message = request.lengths(packet, os.fstat(file).st_size)
    return request.read(os.pread(file, strings, 0), os.pread(file, message, strings), number=user)
