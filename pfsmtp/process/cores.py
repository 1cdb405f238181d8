"""Keeps a worker to one core.

The threads of a Python process take turns, so a second core helps it little. It costs much when
they move between cores: what one has in its cache, the other has to fetch, reference counts above
all. Where a process may not choose, or there is one core, nothing changes.
"""

from __future__ import annotations

import os
from contextlib import suppress


def keep_to_one(number: int) -> None:
    """Keep this thread, and all it starts from now on, to one of the cores that it may use.

    Numbers count on round the cores; negative ones from the last.
    """
    with suppress(OSError):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
