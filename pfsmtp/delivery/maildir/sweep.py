"""What was left in a Maildir's `tmp/` by deliveries that died.

A file that nobody has touched for 36 hours has no delivery behind it: it is removed. Younger
ones, and whatever is no file, are left alone. Nothing here fails: what cannot be removed stays
until next time.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from pfsmtp.durable import Directory

ABANDONED = 36 * 3600.0
"""Seconds, as Maildir has it (https://cr.yp.to/proto/maildir.html)."""

INTERVAL = 24 * 3600.0
"""Seconds between two sweeps of a Maildir that stays in use."""


def sweep(tmp: Directory, now: float) -> None:
    """Remove what was neither read nor written for 36 hours; `now` is in Unix seconds."""
    with suppress(OSError), os.scandir(tmp.fd) as entries:
        for entry in entries:
            with suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                touched = max(found.st_atime, found.st_mtime)
                if stat.S_ISREG(found.st_mode) and now - touched > ABANDONED:
                    os.unlink(entry.name, dir_fd=tmp.fd)
