"""What is killed when: a sequence that the seed decides, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random


class Target(Enum):
    """Who is killed."""

    RECEIVER = "receiver"
    DELIVERER = "deliverer"
    MASTER = "master"
    ALL = "all"  # at once, as a machine does that stops


_WEIGHTS = {Target.RECEIVER: 5, Target.DELIVERER: 3, Target.MASTER: 2, Target.ALL: 2}
_HASTY = 0.15


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill; `program` and `which` are numbers from 0 to 1 that choose among several."""

    after: float  # seconds
    target: Target
    program: float
    which: float
    hasty: bool  # also while the server is only starting


def kills(random: Random, targets: Sequence[Target], *, mean: float) -> Iterator[Kill]:
    """Kills without end, `mean` seconds between them on average."""
    weights = [_WEIGHTS[target] for target in targets]
    while True:
        yield Kill(
            random.uniform(0.02, 2 * mean),
            random.choices(targets, weights)[0],
            random.random(),
            random.random(),
            hasty=random.random() < _HASTY,
        )
