"""One function a command, in the order of RFC 5321 §4.1.1; extensions behind them.

Each is given the session and the argument, and returns the reply. What may come when has been
checked by `command`. A client's error may also be raised, as PeerError; a delivery that fails
raises DeliveryFailure, which `server` turns into a reply.
"""

from __future__ import annotations

import ipaddress
import re

from pfsmtp.smtp import extension
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.data import TOO_LARGE, Chunk, Data, Incoming, RefusedChunk, refusal
from pfsmtp.smtp.errors import DeliveryFailure, PeerError
from pfsmtp.smtp.path import PathSyntaxError, parse_path
from pfsmtp.smtp.reply import After, Reply
from pfsmtp.smtp.session import Session
from pfsmtp.smtp.transaction import Transaction

CLOSING = Reply(221, "Goodbye", (0, 0), After.CLOSE)
IDLE = Reply(421, "Too many commands that bring no mail", (7, 0), After.CLOSE)

_OK = Reply(250, "OK", (0, 0))
_SENDER_OK = Reply(250, "Sender OK", (1, 0))
_RECIPIENT_OK = Reply(250, "Recipient OK", (1, 5))
_GO_AHEAD = Reply(354, "Send the message; end with <CRLF>.<CRLF>")
_NO_RECIPIENTS = Reply(554, "No recipient was accepted", (5, 1))
_TOO_MANY_RECIPIENTS = Reply(452, "Too many recipients; send the others a message more", (5, 3))
_TOO_MANY_MESSAGES = Reply(421, "Too many messages in one session", (5, 3), After.CLOSE)
_NO_ROOM = Reply(452, "There is no room for a message of this size now", (3, 1))
_NO_VRFY = Reply(502, "VRFY is not offered; mail is accepted or refused at RCPT", (5, 1))
_NO_EXPN = Reply(502, "EXPN is not offered", (5, 1))
_READY_FOR_TLS = Reply(220, "Ready to start TLS", (0, 0), After.START_TLS)
_TLS_ACTIVE = Reply(503, "TLS is active already", (5, 1))
_NO_TLS = Reply(502, "STARTTLS is not offered", (5, 1))
_HELP = Reply(
    214,
    (
        "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT STARTTLS HELP",
        "For questions about mail to this host write to its postmaster",
    ),
    (0, 0),
)
_BAD_CHUNK = Reply(501, "BDAT takes a size, and perhaps LAST", (5, 4), After.CLOSE)
_CHUNK_ALONE = Reply(503, "BDAT comes after MAIL and RCPT", (5, 1))

# RFC 3030 §4.2: chunk-size is 1 to 20 digits; one of more than 18 would not end before the session
_CHUNK = re.compile(rb"([0-9]{1,18})(?: +(LAST))?\Z", re.IGNORECASE)


def ehlo(session: Session, argument: bytes) -> Reply:
    """EHLO: who the client is, and what we offer (RFC 5321 §4.1.1.1)."""
    session.greet(argument.decode("utf-8"), extended=True)
    in_clear, encrypted = session.server.extensions
    return encrypted if session.peer.encryption else in_clear


def helo(session: Session, argument: bytes) -> Reply:
    """HELO: the same, without extensions (RFC 5321 §4.1.1.1)."""
    session.greet(argument.decode("utf-8"), extended=False)
    return session.server.hello


def mail(session: Session, argument: bytes) -> Reply:
    """MAIL: begin a transaction (RFC 5321 §4.1.1.2)."""
    server = session.server
    if session.messages >= server.limits.messages:
        return _TOO_MANY_MESSAGES
    reverse_path, rest = _path(argument, b"FROM:")
    if reverse_path is not None and not reverse_path.domain:
        return Reply(553, "The sender's address needs a domain", (1, 7))
    parameters = extension.mail_parameters(rest, dsn=server.dsn)
    if parameters.size:
        if parameters.size > server.limits.message_size:
            return TOO_LARGE
        if not server.store.room_for(parameters.size):
            return _NO_ROOM
    if reverse_path is not None and reverse_path.needs_smtputf8 and not parameters.smtputf8:
        return Reply(550, "This address needs the parameter SMTPUTF8", (6, 7))
    refusal = server.access.sender(session.peer, reverse_path)
    if refusal is not None:
        return refusal
    session.begin(Transaction(reverse_path, parameters))
    return _SENDER_OK


def rcpt(session: Session, argument: bytes) -> Reply:
    """RCPT: add a recipient to the transaction (RFC 5321 §4.1.1.3)."""
    server, transaction = session.server, session.transaction
    assert transaction is not None
    mailbox, rest = _path(argument, b"TO:")
    if mailbox is None:
        return Reply(501, "The null path is no recipient", (1, 3))
    # RFC 5321 §4.5.1: postmaster is the one local-part that needs no domain
    if not mailbox.domain and mailbox.local_part.lower() != "postmaster":
        return Reply(553, "The recipient's address needs a domain", (1, 3))
    recipient = extension.recipient(mailbox, rest, dsn=server.dsn)
    if mailbox.needs_smtputf8 and not transaction.parameters.smtputf8:
        return Reply(553, "This address needs the parameter SMTPUTF8 at MAIL", (6, 7))
    if len(transaction.recipients) >= server.limits.recipients:
        return _TOO_MANY_RECIPIENTS
    refusal = server.access.recipient(session.peer, transaction.reverse_path, mailbox)
    if refusal is not None:
        return refusal
    transaction.recipients.append(recipient)
    return _RECIPIENT_OK


def data(session: Session, argument: bytes) -> Reply:
    """DATA: the message follows (RFC 5321 §4.1.1.4)."""
    transaction = session.transaction
    assert transaction is not None
    if not transaction.recipients:
        return _NO_RECIPIENTS
    session.incoming = Data(session.receive(transaction))
    return _GO_AHEAD


def rset(session: Session, argument: bytes) -> Reply:
    """RSET: drop the transaction (RFC 5321 §4.1.1.5)."""
    session.abandon()
    return _OK


def vrfy(session: Session, argument: bytes) -> Reply:
    """VRFY: recognised, not offered (RFC 5321 §3.5.3)."""
    return _NO_VRFY


def expn(session: Session, argument: bytes) -> Reply:
    """EXPN: recognised, not offered (RFC 5321 §3.5.3)."""
    return _NO_EXPN


def help(session: Session, argument: bytes) -> Reply:
    """HELP: what there is (RFC 5321 §4.1.1.8)."""
    return _HELP


def noop(session: Session, argument: bytes) -> Reply:
    """NOOP: nothing (RFC 5321 §4.1.1.9)."""
    return _OK


def quit(session: Session, argument: bytes) -> Reply:
    """QUIT: the end (RFC 5321 §4.1.1.10)."""
    return CLOSING


def starttls(session: Session, argument: bytes) -> Reply:
    """STARTTLS: go on under TLS (RFC 3207 §4)."""
    if session.peer.encryption is not None:
        return _TLS_ACTIVE
    return _READY_FOR_TLS if session.server.tls else _NO_TLS


def bdat(session: Session, argument: bytes) -> Reply | None:
    """BDAT: a chunk of the message follows at once (RFC 3030 §2).

    The reply comes behind the chunk's octets, which are read even when they are refused.
    """
    chunk = _CHUNK.match(argument)
    if chunk is None:
        return _BAD_CHUNK
    size, last = int(chunk[1]), chunk[2] is not None
    if not size and not last and session.has_idled():
        return IDLE
    transaction = session.transaction
    if transaction is None:
        session.incoming = RefusedChunk(size, _CHUNK_ALONE)
    elif not transaction.recipients:
        session.incoming = RefusedChunk(size, _NO_RECIPIENTS)
    else:
        session.incoming = _chunk(session, transaction, size, last=last)
    return None


def _chunk(session: Session, transaction: Transaction, size: int, *, last: bool) -> Incoming:
    """What takes the octets of a chunk that is in its place."""
    try:
        message = transaction.message or session.receive(transaction)
    except DeliveryFailure as failure:
        # RFC 3030 §2: the octets come all the same; without them, the next chunks are no message
        session.report(failure)
        session.abandon()
        return RefusedChunk(size, refusal(failure))
    return Chunk(message, size, last=last)


def _path(argument: bytes, keyword: bytes) -> tuple[Mailbox | None, bytes]:
    """The mailbox in a path, None for `<>`, and the parameters behind it."""
    detail = (1, 7) if keyword == b"FROM:" else (1, 3)
    try:
        local_part, domain, rest = parse_path(argument, keyword)
        if domain.startswith("["):
            _check_literal(domain[1:-1])
    except PathSyntaxError as error:
        raise PeerError(Reply(501, f"Syntax: {error}", detail)) from None
    return (Mailbox(local_part, domain) if local_part else None), rest


def _check_literal(text: str) -> None:
    """RFC 5321 §4.1.3: an IPv4 address, or IPv6: and an IPv6 address."""
    try:
        if text[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        raise PathSyntaxError(
            "an address literal is like [192.0.2.1] or [IPv6:2001:db8::1]"
        ) from None
