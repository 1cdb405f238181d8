"""Whole steps of a queue slot in one call: what `ext/slot.pyx` offers.

`fd` is an open file description that nobody else uses meanwhile: its locks are those of one holder.
`commit` is the group commit of the same file; the caller had it before anything was written. What
is written durably is on disk when the call returns. A failure is an `OSError`. The GIL is released
once for the whole of a call.
"""

class GroupCommit:
    """Has what several threads have written to a file synced once for all of them.

    Who comes while a sync runs is served by the next. When one fails, everybody in it fails, those
    who have come meanwhile, and all who come later: what is written from then on needs another.
    """

    def __init__(self, fd: int, /) -> None:
        """Take over a description of the file that nobody else uses; unless this raises.

        It is closed with the last reference, once no call is under way.
        """

    @property
    def failed(self) -> bool: ...
    @property
    def waiting(self) -> int:
        """How many threads are in the next round."""

    def sync(self) -> None:
        """Wait until all that was written to the file before now is on disk, by anybody."""

def store(
    fd: int,
    commit: GroupCommit,
    offset: int,
    span: int,
    parts: list[bytes],
    pipe: int = -1,
    record: bytes = b"",
    /,
) -> int:
    """Lock `span` octets from `offset` on, write the parts there durably, unlock.

    Then write `record` to the non-blocking `pipe`. Returns 0 when somebody holds a lock there, and
    nothing was written; 1 when it is stored; 2 when it is stored, and the record written as well.
    After a failure the first page has been overwritten with zeros, if that was possible.
    """

def claim(fd: int, at: int, offset: int, size: int, /) -> bytes | None:
    """Lock the octet `at`, and read `size` octets from `offset` on; fewer at the end of the file.

    None when somebody else holds the lock.
    """

def write(fd: int, commit: GroupCommit, offset: int, octets: bytes, /) -> None:
    """Write durably."""

def settle(fd: int, commit: GroupCommit, offset: int, octets: bytes, at: int, /) -> None:
    """Write durably, then unlock the octet `at`. A failure leaves it locked."""

def lock(fd: int, start: int, length: int, /) -> bool:
    """Lock without waiting; False when somebody else holds a lock there."""

def unlock(fd: int, start: int, length: int, /) -> None: ...
def some_lock(fd: int, start: int, length: int, /) -> tuple[int, int] | None:
    """Return start and end of a lock that another description holds there; takes none."""
