"""What an error of the system means to whoever sends mail.

Nothing here is for good: disks are cleared, limits raised and Maildirs repaired by people. The
text says nothing of this machine; the error itself is chained, for the log.
"""

from __future__ import annotations

from errno import (
    EACCES,
    EDQUOT,
    EFBIG,
    ELOOP,
    EMFILE,
    ENFILE,
    ENOSPC,
    ENOTDIR,
    EPERM,
    EXDEV,
)

from pfsmtp.smtp.errors import TransientFailure

_FULL = frozenset({ENOSPC, EDQUOT, EFBIG})
_UNUSABLE = frozenset({EACCES, ELOOP, ENOTDIR, EPERM, EXDEV})
_NO_DESCRIPTORS = frozenset({EMFILE, ENFILE})


def transient(cause: OSError) -> TransientFailure:
    """The failure to raise from `cause` (RFC 3463 §3.3, §3.4)."""
    if cause.errno in _FULL:
        return TransientFailure(3, 1, "There is no room for the message now")
    if cause.errno in _UNUSABLE:
        return TransientFailure(2, 1, "A mailbox cannot take messages now")
    return TransientFailure(3, 0, "The message cannot be stored now")


def wants_descriptors(cause: OSError) -> bool:
    """Whether giving back descriptors would help."""
    return cause.errno in _NO_DESCRIPTORS
