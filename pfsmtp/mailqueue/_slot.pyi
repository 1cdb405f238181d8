"""Whole steps of a queue slot in one call: what `ext/slot.pyx` offers.

`fd` is an open file description that nobody else uses meanwhile: its locks are those of one holder,
and the kernel reports a lost write to each description once. A durable write is on disk when the
call returns. A failure is an `OSError`. The GIL is released once for the whole of a call.
"""

def store(
    fd: int, offset: int, span: int, parts: list[bytes], pipe: int = -1, record: bytes = b"", /
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

def write(fd: int, offset: int, octets: bytes, /) -> None:
    """Write durably."""

def settle(fd: int, offset: int, octets: bytes, at: int, /) -> None:
    """Write durably, then unlock the octet `at`. A failure leaves it locked."""

def lock(fd: int, start: int, length: int, /) -> bool:
    """Lock without waiting; False when somebody else holds a lock there."""

def unlock(fd: int, start: int, length: int, /) -> None: ...
def some_lock(fd: int, start: int, length: int, /) -> tuple[int, int] | None:
    """Return start and end of a lock that another description holds there; takes none."""
