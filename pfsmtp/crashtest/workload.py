"""What the clients send: a sequence for each that the seed decides, and nothing else.

Most messages are small and have one recipient; some are larger than what is kept in memory. They
are sent in every way that the protocol has, and some with pauses, so that kills come upon each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from random import Random
from typing import TypeVar

T = TypeVar("T")

_SIZES = (  # share, octets from, to
    (0.62, 100, 4 << 10),
    (0.27, 4 << 10, 32 << 10),
    (0.10, 32 << 10, 256 << 10),
    (0.01, (1 << 20) + 1, 5 << 19),
)
_RECIPIENTS = ((0.7, 1, 1), (0.25, 2, 4), (0.05, 5, 12))
_MOST_ON_A_CONNECTION = 20


class Protection(Enum):
    """How a connection is encrypted."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"  # from the first octet


class Form(Enum):
    """How a message is sent."""

    STEPS = "steps"  # each command is answered before the next is sent
    PIPELINED = "pipelined"
    CHUNK = "chunk"  # BDAT, the whole transaction in one piece
    CHUNKS = "chunks"  # several BDAT, one after the other


_PROTECTIONS = {Protection.NONE: 0.5, Protection.STARTTLS: 0.3, Protection.TLS: 0.2}
_FORMS = {Form.STEPS: 0.25, Form.PIPELINED: 0.35, Form.CHUNK: 0.2, Form.CHUNKS: 0.2}


@dataclass(frozen=True, slots=True)
class Order:
    """One message to be sent; `size` is of its body, in octets."""

    number: int
    size: int
    recipients: tuple[str, ...]
    form: Form
    halting: bool  # in pieces, with pauses


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection, and what is sent over it."""

    protection: Protection
    orders: tuple[Order, ...]


class Workload:
    """The visits of one client."""

    def __init__(
        self, seed: str, client: int, *, clients: int, pick: Callable[[Random], str], largest: int
    ) -> None:
        """`pick` chooses a recipient; a body has `largest` octets at most."""
        self._random = Random(f"{seed}/client/{client}")
        self._numbers = count(client, clients)
        self._pick = pick
        self._largest = largest

    def visits(self) -> Iterator[Visit]:
        """What the client does, one connection after the other, without end."""
        while True:
            protection = _by_share(self._random, _PROTECTIONS)
            most = self._random.randint(1, _MOST_ON_A_CONNECTION)
            yield Visit(protection, tuple(self._order() for _ in range(most)))

    def _order(self) -> Order:
        random = self._random
        size = min(_amount(random, _SIZES), self._largest)
        wanted = _amount(random, _RECIPIENTS)
        return Order(
            next(self._numbers),
            size,
            tuple(dict.fromkeys(self._pick(random) for _ in range(wanted))),
            _by_share(random, _FORMS),
            halting=random.random() < 0.1,
        )


def _amount(random: Random, table: tuple[tuple[float, int, int], ...]) -> int:
    _, low, high = random.choices(table, [share for share, _, _ in table])[0]
    return random.randint(low, high)


def _by_share(random: Random, shares: dict[T, float]) -> T:
    return random.choices(list(shares), list(shares.values()))[0]
