"""What an error of the system means to whoever puts a message: nothing for good.

The text says nothing of this machine; the error itself is chained, for the log.
"""

from __future__ import annotations

from errno import EDQUOT, EFBIG, ENOSPC

from pfsmtp.smtp.errors import TransientFailure

_FULL = frozenset({ENOSPC, EDQUOT, EFBIG})


def transient(cause: OSError) -> TransientFailure:
    """The failure to raise from `cause` (RFC 3463 §3.4)."""
    if cause.errno in _FULL:
        return TransientFailure(3, 1, "There is no room in the queue now")
    return TransientFailure(3, 0, "The message cannot be queued now")
