"""Names that no other delivery has: of files in a Maildir, and of messages in logs and replies.

Time, process, and a counter common to all workers and threads would do, if clocks never went
back, no PID came again, and no counter began anew; since they do, random bits are added. A name
that is taken all the same is noticed when the file is made, or renamed, and never replaces a
message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

_ODD = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_HOST = 100
"""A file name has 255 octets at most, and readers append flags to it."""


class Names:
    """Makes the names; to be made in the process that uses it.

    `numbers` returns the next number of the counter, `clock` the time in Unix seconds.
    """

    def __init__(
        self,
        hostname: str,
        *,
        numbers: Callable[[], int],
        clock: Callable[[], float],
        pid: int,
        bits: Callable[[int], int] | None = None,
    ) -> None:
        self._host = clean_host(hostname)
        self._numbers = numbers
        self._clock = clock
        self._pid = pid
        self._bits = bits or Random().getrandbits

    def file(self) -> str:
        """`<seconds>.M<µs>P<pid>Q<counter>R<random>.<host>`, as Maildir wants it."""
        now = self._clock()
        seconds = int(now)
        return (
            f"{seconds}.M{int((now - seconds) * 1e6)}P{self._pid}"
            f"Q{self._numbers()}R{self._bits(32):08x}.{self._host}"
        )

    def message(self) -> str:
        """A short name for a message: hexadecimal digits, for Received, the log and the 250."""
        return f"{int(self._clock()):x}{self._numbers():x}{self._bits(24):06x}"


def clean_host(hostname: str) -> str:
    r"""The host as it may stand in a file name: `/` becomes `\057`, `:` becomes `\072`."""
    name = _ODD.sub(lambda found: "".join(rf"\{o:03o}" for o in found[0].encode()), hostname)
    return name[:_LONGEST_HOST]
