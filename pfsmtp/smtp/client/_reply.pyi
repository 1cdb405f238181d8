from collections.abc import Callable
from typing import Generic, TypeVar

Reply = TypeVar("Reply")

class BadReply(Exception):
    """What came is no reply; the text names it: `a reply whose code changes`."""

class ReplyReader(Generic[Reply]):
    """Takes replies off the octets that come in (RFC 5321 §4.2), strictly.

    Lines end with CRLF, all lines of a reply have one code, from 200 to 599, and a line has
    `longest` octets at most with its end, a reply `most` lines.
    """

    is_empty: bool
    """Whether nothing is left that nobody has asked for."""

    def __init__(
        self, make: Callable[[int, int, list[bytes]], Reply], *, longest: int, most: int
    ) -> None:
        """`make` makes a reply of its code, the first digit of that, and its lines.

        Those are without code and line end.
        """
    def feed(self, octets: bytes) -> None:
        """Take what has come in."""
    def next(self) -> Reply | None:
        """Return the next whole reply, or None until more has come in. Raises BadReply."""
