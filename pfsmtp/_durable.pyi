"""Files that are on disk before the call returns: what `ext/durable.pyx` offers.

Names are those of files within a directory, never paths: a name that is empty, `.`, `..`, or holds
`/` or NUL is a `ValueError`. Every other failure is an `OSError` that says which step failed, and
after it nothing new is left behind, neither in the file's first place nor in its second.

The GIL is released once for the whole of a call. Everything here is safe among threads; nothing
may be taken through a fork (make these objects in the worker).
"""

from collections.abc import Sequence
from os import PathLike

_Path = str | bytes | PathLike[str]

class Filesystem:
    """The file system of a directory, synced as a whole (`syncfs`) for all threads that ask.

    For directories that are given one, this takes the place of `fsync` of each file and directory.
    Errors are reported since Linux 5.8; on an older kernel this raises `OSError`.
    """

    device: int
    kind: int
    """Its `f_type`; see statfs(2)."""
    failed: bool
    """Whether a sync has failed: then another object has to take its place."""

    def __init__(self, directory: Directory) -> None: ...
    def sync(self) -> None:
        """As `Directory.sync`, for everything on the file system."""

class Directory:
    """An open directory; closed when the last reference to it goes, so never under a thread.

    A last path component that is a symbolic link is refused (`follow` permits it). `parent` is the
    descriptor that a relative `path` starts from; default: the current directory.
    """

    fd: int
    device: int
    inode: int
    changed: float
    """When its entries or its mode last changed; Unix seconds."""
    failed: bool
    """Whether a sync has failed: then it has to be opened anew."""
    filesystem: Filesystem | None
    waiting: int
    """How many threads wait for the next sync to begin."""

    def __init__(
        self,
        path: _Path,
        *,
        parent: Directory | None = None,
        follow: bool = False,
        filesystem: Filesystem | None = None,
    ) -> None: ...
    def sync(self) -> None:
        """Return when all entries made before this call are on disk.

        Threads that ask at the same moment share one `fsync`; one that asks while it runs
        waits for the next. After one that failed, this and every later call raises its error:
        what is on disk is unknown, and asking again would be told that all is well.
        """

class File:
    """A file that grows piece by piece, for what is too large for memory; used by one thread.

    Made with mode 0600; `name` must not exist. Its name is its user's to `publish` or `remove`.
    """

    size: int

    def __init__(self, directory: Directory, name: str) -> None: ...
    def write(self, parts: Sequence[bytes]) -> None: ...
    def sync(self) -> None:
        """Return when all that was written is on disk. After it has failed nothing is known."""

    def forget(self) -> None:
        """Give the memory back in which the kernel keeps what is on disk of it, to be read anew."""

    def copy(self, directory: Directory, name: str, head: Sequence[bytes], start: int) -> None:
        """Store `head`, then this file's octets from `start` on, as `store` does.

        They pass through the kernel only, and are had even when the name of this file is gone.
        """

    def close(self) -> None:
        """Give the descriptor back, as does dropping it."""

def store(directory: Directory, name: str, parts: Sequence[bytes]) -> None:
    """Make the file `name`, mode 0600, with these octets, and sync it; not its directory entry.

    Of a file of more than 32 KiB the kernel then keeps nothing in memory.
    """

def move(source: Directory, name: str, target: Directory, new_name: str) -> None:
    """Rename without ever replacing a file: `FileExistsError` if `new_name` is taken."""

def remove(directory: Directory, name: str) -> None:
    """Unlink `name`; that it is not there is no error."""

def publish(moves: Sequence[tuple[Directory, str, Directory]]) -> None:
    """Rename stored files `(from, name, to)`, keeping the name, then sync each `to` once.

    All or none: after a failure those renamed are unlinked, and so are those that were not.
    """

def deliver(tmp: Directory, name: str, parts: Sequence[bytes], new: Directory) -> None:
    """`store`, `move` with the same name and `new.sync()` in one; on an error nothing is left."""

def deliver_all(
    deliveries: Sequence[tuple[Directory, str, Sequence[bytes], Directory]],
    filesystem: Filesystem | None = None,
) -> None:
    """`deliver` for several `(tmp, name, parts, new)`: all files are synced before any is renamed,
    all are renamed before any directory is synced, and each directory is synced once.

    With `filesystem`, on which all of them have to be, four files or more share one sync of it,
    and their directories another. So do a single file and those that eight threads or more deliver
    into its directory at the same moment.
    """
