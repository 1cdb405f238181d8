"""How this room says that something cannot go on, within the program and to who started it."""

BUG = 70
"""Exit status of a process that a bug has ended, as EX_SOFTWARE of sysexits.h."""

BOOT_FAILED = 3
"""Exit status of a worker that cannot start, and of a master whose first workers cannot."""

LOAD_FAILED = 1
"""Exit status of a master that could not load its first generation."""


class ServiceError(Exception):
    """The service cannot run as it is configured; the text says why and what to do."""
