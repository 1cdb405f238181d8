"""What inbound and outbound each make of their configuration: read and checked, not running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pfsmtp.log import Log
from pfsmtp.policy.limits import ClientLimits
from pfsmtp.process.service import Body, Context
from pfsmtp.roles.receiver import Submissions
from pfsmtp.smtp.session import Server


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of worker beside the receivers; `make` is called in its process.

    `prepare` is called in the master before, as `process.service.Role` has it.
    """

    name: str
    count: int
    make: Callable[[Context, Log, Callable[[], int]], Body]
    prepare: Callable[[], None]


class Plan(Protocol):
    """The final delivery, and the workers it needs."""

    @property
    def workers(self) -> Sequence[Kind]: ...

    @property
    def socket(self) -> Path | None:
        """Where programs of this machine hand over messages, other than by SMTP."""
        ...

    def submissions(self, server: Server) -> Submissions | None:
        """What a receiver does with what comes there; called in its process."""
        ...

    def server(
        self, log: Log, numbers: Callable[[], int], *, clients: ClientLimits, tls: bool
    ) -> Server:
        """What the sessions of a receiver are given; called in its process."""
        ...
