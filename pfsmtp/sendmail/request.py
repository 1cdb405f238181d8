"""A message as the compiled front hands it to the server, and the server's answer.

The two are of one machine and, but for an upgrade, of one version; ext/front.c is the other end.
A request is one packet on a socket of SOCK_SEQPACKET: two numbers of 32 bits, and one descriptor.

    version   `VERSION`
    length    of the strings that stand in the file before the message

The descriptor is a file in memory (memfd_create(2)) that is sealed: nobody can change it any more,
so it is read when it suits the server, and takes the memory of who made it. In it are strings, each
with a NUL behind it, and the message as it came, up to a lone dot if that ends it. The strings:
login and gecos of the user database, NAME and LOGNAME of the environment, and the command line, the
program's name first.

The answer is one packet: an exit status of sysexits.h, and what stderr is to say; or `ELSEWHERE`,
nothing was done, and the front is to go another way: without the server's help, in Python.
"""

from __future__ import annotations

import os
import struct

from pfsmtp.sendmail.failure import Failure
from pfsmtp.sendmail.user import User

VERSION = 1
PACKET = struct.Struct("=II")
ELSEWHERE = b"\xff"

LONGEST_STRINGS = 256 * 1024  # octets
LONGEST_MESSAGE = 1024 * 1024
_LONGEST_ANSWER = 32 * 1024
_OF_THE_USER = 4  # strings


class NotHere(Exception):
    """This is for another way: too large, of another version, or no request at all."""


class Request:
    """What somebody's sendmail was given."""

    def __init__(self, argv: list[str], user: User, octets: bytes) -> None:
        self.argv = argv
        self.user = user
        self.octets = octets  # of the message


def lengths(packet: bytes, size: int) -> tuple[int, int]:
    """Return the lengths of strings and message in a file of `size` octets. Raises NotHere."""
    if len(packet) != PACKET.size:
        raise NotHere("it is no request")
    version, strings = PACKET.unpack(packet)
    if version != VERSION:
        raise NotHere(f"it is of version {version}")
    if strings > min(LONGEST_STRINGS, size) or size - strings > LONGEST_MESSAGE:
        raise NotHere(f"it has {size} octets")
    return strings, size - strings


def read(strings: bytes, message: bytes, *, number: int) -> Request:
    """Read a request of the user with this number. Raises NotHere."""
    *texts, end = strings.decode("utf-8", "surrogateescape").split("\0")
    if end or len(texts) <= _OF_THE_USER:
        raise NotHere("its strings are not those of a request")
    login, gecos, name, logname = texts[:_OF_THE_USER]
    user = User(number, login=login, gecos=gecos, name=name, logname=logname)
    return Request(texts[_OF_THE_USER:], user, message)


def answer(failure: Failure | None) -> bytes:
    """Return the packet that says what has become of it."""
    if failure is None:
        return bytes([os.EX_OK])
    text = f"sendmail: {failure.text}\n".encode("utf-8", "backslashreplace")
    return bytes([failure.status]) + text[:_LONGEST_ANSWER]
