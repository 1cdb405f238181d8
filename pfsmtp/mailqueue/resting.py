"""Which destinations are left alone for now, told by the deliverers to whoever looks.

A hint, and no part of the queue: it is in nobody's way when it is old, torn or missing, and costs
no write that anybody waits for. Each deliverer has a file of its own in the queue's directory,
`resting.N`, written anew when something has changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

_PREFIX = "resting."


class Resting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A destination that is not tried before `until`, in Unix seconds, and why."""

    destination: str
    until: float
    reason: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Resting]).decode


def publish(directory: Path, index: int, resting: Iterable[Resting]) -> None:
    """Tell what deliverer `index` leaves alone. That it could not be told harms nobody."""
    path = directory / f"{_PREFIX}{index}"
    new = directory / f"{_PREFIX}{index}.new"
    with suppress(OSError):
        new.unlink(missing_ok=True)
        with open(new, "xb", opener=_open_private) as file:
            file.write(_encode(list(resting)))
        new.replace(path)


def read(directory: Path, now: float) -> dict[str, Resting]:
    """What is left alone now, by destination. Raises no error."""
    found: dict[str, Resting] = {}
    with suppress(OSError):
        for path in directory.glob(f"{_PREFIX}*[0-9]"):
            with suppress(OSError, msgspec.MsgspecError):
                found |= {
                    each.destination: each
                    for each in _decode(path.read_bytes())
                    if each.until > now
                }
    return found


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
