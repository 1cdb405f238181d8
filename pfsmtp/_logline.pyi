"""A line of the log as octets, and its way into a file: what `ext/logline.pyx` offers."""

from collections.abc import Callable

def logfmt(
    fields: dict[str, object], words: Callable[[object], str], escape: Callable[[str], str], /
) -> bytes:
    """Return ` key=value` for each field.

    None is `-`; numbers stand as they are, and so does text, within quotes where it has to be;
    lists of text have commas. `words` puts any other value into words; `escape` is for text that
    is not plain within quotes, and gives it without lone surrogates.
    """

def logfmt_line(
    stamp: str,
    name: str,
    bound: bytes,
    fields: dict[str, object],
    words: Callable[[object], str],
    escape: Callable[[str], str],
    /,
) -> bytes:
    """Return `ts=stamp event=name`, what `logfmt` gave before, the fields, and a line end."""

def write_at_once(descriptor: int, octets: bytes, /) -> int:
    """As os.write, but with the GIL kept: handing it over takes longer than a file does."""
