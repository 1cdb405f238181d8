"""Mail for the users of this machine, into their Maildirs (https://cr.yp.to/proto/maildir.html).

`MaildirStore` implements `smtp.ports.MessageStore`. When a commit returns, file and directory
entry are on disk for every recipient: all files are written to `tmp/` and synced, then all
renamed into `new/`, never over another, then each distinct `new/` is synced. The same mailbox
named twice gets one copy; two addresses of one login get one each, with its own Delivered-To.

What it leaves to others: who a local user is (`login_of`), and what is wrong with a message. It
fails with `TransientFailure`, with the system's error chained, and then nothing is left: not in
`new/`, as far as the disk lets itself be put right, and not in `tmp/`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pfsmtp.delivery.maildir.directories import Maildirs
from pfsmtp.delivery.maildir.intake import LINE_END, Copy, MaildirIntake, Workshop
from pfsmtp.delivery.maildir.names import Names
from pfsmtp.message.trace import Dates
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Origin
from pfsmtp.smtp.errors import TransientFailure

SPACE_KNOWN = 1.0
"""Seconds for which the free space of the disk is taken to be what it was."""


class MaildirStore:
    """Delivers to Maildirs; to be made in the process that uses it, for all its threads.

    `template` is the absolute path of a Maildir with `{login}` in it; `numbers` is a counter common
    to all processes. `sync` says what is synced: each file and directory, or (`"filesystem"`) the
    whole file system, at once for all threads that wait: for one that holds nothing but mail.
    """

    line_end = LINE_END

    def __init__(
        self,
        template: str,
        login_of: Callable[[Mailbox], str | None],
        *,
        hostname: str,
        numbers: Callable[[], int],
        sync: Literal["files", "filesystem"] = "files",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login_of = login_of
        self._monotonic = monotonic
        self._space = (float("-inf"), 0)  # when it was asked, and what it said
        self._shop = Workshop(
            Maildirs(
                template,
                whole_filesystem=sync == "filesystem",
                clock=clock,
                monotonic=monotonic,
            ),
            Names(hostname, numbers=numbers, clock=clock, pid=os.getpid()),
            Dates(),
            clock,
        )

    def begin(self, envelope: Envelope, origin: Origin) -> MaildirIntake:
        return MaildirIntake(self._shop, envelope, origin=origin, copies=self._copies(envelope))

    def room_for(self, size: int) -> bool:
        now = self._monotonic()
        asked, octets = self._space
        if now - asked > SPACE_KNOWN:
            try:
                octets = free_octets(self._shop.maildirs.base)
            except OSError:
                return True  # the delivery will find out, and say what is wrong
            self._space = (now, octets)
        return size <= octets

    def _copies(self, envelope: Envelope) -> list[Copy]:
        """One for each mailbox. What may differ in writing only is the same one."""
        copies: dict[str, Copy] = {}
        for recipient in envelope.recipients:
            mailbox = recipient.mailbox
            login = self._login_of(mailbox)
            if login is None:
                # It was let in at RCPT by a user map that says otherwise.
                raise TransientFailure(3, 5, "A recipient is not known any more")
            copies.setdefault(str(mailbox).casefold(), Copy(mailbox, login))
        return list(copies.values())


def free_octets(path: Path) -> int:
    """How much fits on the disk that `path` is on, or will be on once it is made."""
    while True:
        try:
            disk = os.statvfs(path)
        except FileNotFoundError:
            path = path.parent
            continue
        # Some file systems count no inodes, and say 0 of 0.
        full = disk.f_files > 0 and disk.f_favail == 0
        return 0 if full else disk.f_bavail * disk.f_frsize
