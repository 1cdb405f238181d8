class LineTooLong(Exception):
    """A command line went over its limit; it has been passed over, to its CRLF."""

class BareLineFeed(Exception):
    """A command line holds a LF without a CR before it."""

class Input:
    """Octets received and not yet understood.

    Two ways in: `feed`, or, without a copy, a `recv_into(input)` followed by `received(count)`. An
    idle one holds 4 KiB; while `data` takes a message out, 16 KiB or, for a large one, 64 KiB.
    """

    def __buffer__(self, flags: int, /) -> memoryview:
        """The free space, at least one octet, to receive into."""
    def __len__(self) -> int:
        """The octets held."""
    def received(self, count: int) -> None:
        """`count` octets have been written to the free space."""
    def feed(self, octets: bytes | bytearray | memoryview) -> None:
        """Append a copy of `octets`."""
    def peek(self) -> int:
        """The next octet, or -1 when there is none."""
    def clear(self) -> None:
        """Forget all that is held."""
    def resize(self, capacity: int) -> None:
        """Make the buffer `capacity` octets large, unless it holds more than that."""
    def command(self, limit: int) -> tuple[bytes, bytes] | None:
        """Take the next command line: the verb in upper case, and its argument.

        None: it has not come whole. Only CRLF ends a line. LineTooLong: it had more than `limit`
        octets with its CRLF. BareLineFeed: and all that is held has been dropped.
        """
    def data(self, decoder: Decoder) -> bytes:
        """Take what is held, as far as it belongs to the message, and return it decoded."""

class Decoder:
    """The octets of one message: dots unstuffed, the end found, faults noted.

    Only CRLF.CRLF (or .CRLF right at the beginning) ends the data (RFC 5321 §4.1.1.4). With
    `keep_cr` lines end with CRLF in what comes out, else with LF.
    """

    ended: bool
    bare_cr: bool
    bare_lf: bool
    nul: bool
    eight_bit: bool
    longest_line: int
    """In octets, without its line end."""
    size: int
    """Octets so far, lines ended with CRLF and dots unstuffed (RFC 1870 §5)."""
    at_line_start: bool

    def __init__(self, *, keep_cr: bool) -> None: ...
    def expect(self, count: int) -> None:
        """What follows is a chunk of `count` octets (BDAT), in which dots mean nothing."""
    def finish(self) -> None:
        """The last chunk has ended; a CR at its very end is a bare one."""

def dot_stuff(octets: bytes | bytearray | memoryview, at_line_start: bool, /) -> tuple[bytes, bool]:
    """Double each dot that begins a line (RFC 5321 §4.5.2); lines end with CRLF.

    Returns the stuffed octets, and whether the octets behind them begin a line.
    """
