"""Commands (RFC 5321 §4.1): what may come when, as a table, checked in one place.

The functions that carry the commands out are in `handlers`, in the order of the RFC.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from msgspec.structs import replace

from pfsmtp.smtp import handlers
from pfsmtp.smtp.reply import After, Reply
from pfsmtp.smtp.session import Session

LONGEST_LINE = 2048
"""Octets of a command line with its CRLF: 512 (RFC 5321 §4.5.3.1.4) and what extensions add."""

_UNKNOWN = Reply(500, "That is not a command known here; HELP lists them", (5, 1))
_ARGUMENT_MISSING = Reply(501, "An argument is missing", (5, 4))
_NO_ARGUMENT = Reply(501, "This command takes no argument", (5, 4))
_NOT_TEXT = Reply(501, "The line holds octets that cannot stand in a command", (5, 2))
_HELLO_FIRST = Reply(503, "Say EHLO or HELO first", (5, 1))
_MAIL_FIRST = Reply(503, "Say MAIL first", (5, 1))
_IN_TRANSACTION = Reply(503, "Not within a mail transaction; RSET ends it", (5, 1))
_IN_CHUNKS = Reply(503, "Only BDAT, RSET, NOOP and QUIT may stand between chunks", (5, 1))


class Argument(Enum):
    """Whether a command has an argument."""

    NONE = auto()
    OPTIONAL = auto()
    REQUIRED = auto()


class Transaction(Enum):
    """When a command may come, with regard to the mail transaction."""

    ANY = auto()
    OUTSIDE = auto()
    INSIDE = auto()


class Rule(NamedTuple):
    """A row of the table."""

    handler: Callable[[Session, bytes], Reply | None]
    argument: Argument
    hello: bool  # EHLO or HELO must have come
    transaction: Transaction
    chunks: bool  # may stand between BDATs
    idle: bool = False  # brings no mail forward: only so many may come
    followed: bool = False  # octets that are no commands follow at once, whatever is answered


NONE, OPTIONAL, REQUIRED = Argument
ANY, OUTSIDE, INSIDE = Transaction

# fmt: off
RULES: dict[bytes, Rule] = {
    #                      handler          argument  hello  when     chunks idle
    b"EHLO":     Rule(handlers.ehlo,     REQUIRED, False, ANY,     False, True),
    b"HELO":     Rule(handlers.helo,     REQUIRED, False, ANY,     False, True),
    b"MAIL":     Rule(handlers.mail,     REQUIRED, True,  OUTSIDE, False),
    b"RCPT":     Rule(handlers.rcpt,     REQUIRED, True,  INSIDE,  False),
    b"DATA":     Rule(handlers.data,     NONE,     True,  INSIDE,  False),
    b"RSET":     Rule(handlers.rset,     NONE,     False, ANY,     True,  True),
    b"VRFY":     Rule(handlers.vrfy,     OPTIONAL, False, ANY,     False),
    b"EXPN":     Rule(handlers.expn,     OPTIONAL, False, ANY,     False),
    b"HELP":     Rule(handlers.help,     OPTIONAL, False, ANY,     False, True),
    b"NOOP":     Rule(handlers.noop,     OPTIONAL, False, ANY,     True,  True),
    b"QUIT":     Rule(handlers.quit,     NONE,     False, ANY,     True),
    b"STARTTLS": Rule(handlers.starttls, NONE,     True,  OUTSIDE, False),
    b"BDAT":     Rule(handlers.bdat,     OPTIONAL, False, ANY,     True,  False, True),
}
# fmt: on


def run(session: Session, verb: bytes, argument: bytes) -> Reply | None:
    """Check a command against the table, and carry it out; None: the reply comes later."""
    rule = RULES.get(verb)
    if rule is None:
        return _UNKNOWN
    refusal = _out_of_place(session, rule, argument)
    if refusal is None:
        if rule.idle and session.has_idled():
            return handlers.IDLE
        return rule.handler(session, argument)
    # What follows must not be read as commands: nothing is left but to close.
    return replace(refusal, after=After.CLOSE) if rule.followed else refusal


def _out_of_place(session: Session, rule: Rule, argument: bytes) -> Reply | None:
    """What stands against a command here and now, or None (RFC 5321 §4.1.4)."""
    if argument:
        if rule.argument is NONE:
            return _NO_ARGUMENT
        if not _is_text(argument):
            return _NOT_TEXT
    elif rule.argument is REQUIRED:
        return _ARGUMENT_MISSING
    if rule.hello and session.hello is None:
        return _HELLO_FIRST
    transaction = session.transaction
    if transaction is None:
        return _MAIL_FIRST if rule.transaction is INSIDE else None
    if rule.transaction is OUTSIDE:
        return _IN_TRANSACTION
    if transaction.message is not None and not rule.chunks:
        return _IN_CHUNKS
    return None


def _is_text(argument: bytes) -> bool:
    """No NUL, CR or other control octet; beyond ASCII only UTF-8 (RFC 6531 §3.3)."""
    try:
        return argument.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False
