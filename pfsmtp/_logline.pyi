"""A line of the log as octets, and its way into a file: what `ext/logline.pyx` offers."""

from collections.abc import Callable

def logfmt(fields: dict[str, object], put: Callable[[object], str], /) -> bytes:
    """Return ` key=value` for each field.

    None is `-`; a number, a text that needs no quotes, and a list of such texts without commas in
    them stand as they are. Any other value is for `put` to put into words, without lone surrogates.
    """

def write_at_once(descriptor: int, octets: bytes, /) -> int:
    """As os.write, but with the GIL kept: handing it over takes longer than a file does."""
