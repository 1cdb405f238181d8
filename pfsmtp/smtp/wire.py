"""The door to the compiled octet loops (ext/wire.pyx, described in _wire.pyi).

There is no second implementation in Python: two parsers that can disagree are how mail is
smuggled. A slow reference stands in the tests, and the two are held against each other.
"""

from pfsmtp.smtp._wire import (
    BareLineFeed,
    Decoder,
    Input,
    LineTooLong,
    dot_stuff,
)

__all__ = [
    "BareLineFeed",
    "Decoder",
    "Input",
    "LineTooLong",
    "dot_stuff",
]
