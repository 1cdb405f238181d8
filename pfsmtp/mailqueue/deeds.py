"""What operators have done with messages, on its way into the server's log.

The operator's command is a process of its own, and cannot write where the server logs: to a stream
that is not its own, or a file that is to belong to others. So it leaves a note in the queue's
directory, a file for all that it did at once, and a deliverer writes it into the log: at once when
it hears of the wish, or when the next server starts.

A note is on disk when the command ends. It is removed after it was logged, so that a crash in
between has it logged twice. That there can be none (the disk is full) keeps nobody from deleting
mail; the command, whose log is what it tells the operator, hears of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from pfsmtp import durable
from pfsmtp.mailqueue.entry import View, Wish
from pfsmtp.mailqueue.files import Files

UNNOTED = "deed-unnoted"
"""The event that tells the operator's command of it."""

_PREFIX = "deeds."
_NOBODY = (1 << 32) - 1  # what the kernel says of who did not log in
_LONGEST = 1 << 26  # octets of a note that are read


class Deed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something was done with one message to one destination."""

    wish: Wish
    id: str
    domain: str
    sender: str
    recipients: list[str]  # that were waiting
    uid: int
    login: int | None  # who logged in, where the kernel knows; sudo and su do not change it
    when: float  # Unix seconds


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Deed]).decode


def leave(files: Files, wish: Wish, done: Iterable[View]) -> None:
    """Leave a note for the deliverers, who are to be told of these wishes afterwards."""
    uid, login, now = os.getuid(), _login(), files.clock()
    deeds = [_deed(wish, view, uid=uid, login=login, now=now) for view in done]
    name = f"{_PREFIX}{int(now * 1e6):020}.{os.urandom(4).hex()}"
    try:
        durable.store(files.tmp, name, [_encode(deeds)])
        if os.geteuid() == 0:
            owner = os.fstat(files.root.fd)
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=files.tmp.fd, follow_symlinks=False)
        durable.publish([(files.tmp, name, files.root)])
    except OSError as error:
        with suppress(OSError):
            durable.remove(files.tmp, name)
        files.log.event(UNNOTED, reason=os.strerror(error.errno or 0))


def log(files: Files) -> None:
    """Write all that was noted into the log. Never raises."""
    try:
        for name in sorted(os.listdir(files.root.fd)):
            if name.startswith(_PREFIX):
                _log(files, name)
    except OSError as error:
        files.log.event("queue-trouble", reason=str(error))


def _log(files: Files, name: str) -> None:
    for each in _read(files, name):
        files.log.event(
            "queue-steered",
            command=each.wish.value,
            id=each.id,
            destination=each.domain,
            sender=each.sender,
            recipients=each.recipients,
            uid=each.uid,
            login=each.login,
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.when)),
        )
    durable.remove(files.root, name)


def _read(files: Files, name: str) -> Iterable[Deed]:
    """What is in a note; nothing if somebody else has logged it, or put there what is none."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(name, flags, dir_fd=files.root.fd)
    except FileNotFoundError:
        return []
    with open(fd, "rb") as file:
        octets = file.read(_LONGEST)
    try:
        return _decode(octets)
    except msgspec.MsgspecError as error:
        files.log.event("queue-file-foreign", file=name, reason=str(error))
        return []


def _deed(wish: Wish, view: View, *, uid: int, login: int | None, now: float) -> Deed:
    entry = view.entry
    return Deed(
        wish,
        entry.id,
        entry.domain,
        str(entry.envelope.reverse_path or ""),
        [str(each.recipient.mailbox) for each in entry.addressees if each.pending],
        uid,
        login,
        now,
    )


def _login() -> int | None:
    try:
        uid = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        return None
    return None if uid == _NOBODY else uid
