"""Freed memory that a process keeps for what comes next.

The C library gives what is free at the end of a heap back to the system, and asks for it again with
the next large message; the kernel has to clear it each time. That took a third of the time that a
worker needs for a message of 5 MB.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

KEPT = 1 << 20
"""Octets that each of the C library's heaps keeps; there are up to eight for each core."""

_M_TRIM_THRESHOLD = -1  # mallopt(3), malloc.h


def keep_freed() -> None:
    """Keep `KEPT` octets in each heap. Where the C library has no such option, nothing changes."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, KEPT)
