class Place:
    """A worker's place among those who wait for connections to the same listeners.

    The worker that comes first is told of a connection, and one of its threads wakes. It then
    queues up behind the others, unless its place is `kept`.
    """

    kept: bool

    def __init__(self, epoll: int, /) -> None:
        """`epoll` is the set in which its threads wait."""

    def take(self, listener: int, /) -> None:
        """Wait for connections to this listener too, behind the others. Raises OSError."""

    def leave(self, listener: int, /) -> None:
        """Wait for them no more. Raises OSError."""

    def accept(self, stop: int, /) -> tuple[int, str, int, str, int] | None:
        """Wait for a connection on any of the listeners.

        Returns its descriptor, the client's address and port, our own address, and the listener.
        None once the descriptor `stop`, in the same set, can be read. Raises OSError for what
        accept4 reports and a caller must act on: EMFILE, ENFILE, ENOBUFS, ENOMEM.
        """

def accept_pending(listener: int, /) -> tuple[int, str, int, str, int] | None:
    """As `Place.accept`, for what waits on this listener already; None when nothing can be had."""

def send_all(fd: int, octets: bytes, wait: float, /) -> None:
    """Send all. Raises OSError, also when the peer takes nothing for `wait` seconds."""

def send_last(fd: int, octets: bytes, wait: float, /) -> None:
    """Send what the peer takes of `octets` within `wait` seconds, and close. Never fails."""

def exchange(fd: int, octets: bytes, into: object, wait: float, wake: int, /) -> int:
    """Send `octets`, wait for input, receive it into the buffer `into`: the GIL is let go once.

    Returns the number of octets received, 0 when the peer has closed, -1 when the descriptor
    `wake` (-1: none) could be read before there was input. Raises TimeoutError after `wait`
    seconds: all has been sent, nothing received. Else OSError.
    """

def wait_for(fd: int, write: bool, wait: float, wake: int, /) -> bool:
    """Wait until `fd` can be read, or written to: True; False when `wake` could be read first.

    Raises TimeoutError after `wait` seconds, OSError.
    """
