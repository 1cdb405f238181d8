"""What became of a recipient in a delivery attempt: what the relay says and the queue records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pfsmtp.smtp.status import Status


class Kind(Enum):
    """How an attempt ended for one recipient."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"  # to be tried again
    FAILED = "failed"  # for good


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended, who said so, and in what words.

    `text` is clean and short enough for a log or a bounce; it is the remote's own where `command`
    is not empty, and ours otherwise.
    """

    kind: Kind
    status: Status
    text: str
    host: str = ""  # the name of the remote; "" when none was reached
    address: str = ""  # its IP address
    command: str = ""  # what the remote replied to: "RCPT", "end of data"
    tls: str | None = None  # version, cipher, and whether the certificate was valid
    uncertain: bool = False  # all was sent and nothing came back: it may have been taken
    notifies: bool = False  # the remote took over the DSN wishes (RFC 3461 §5.2.3)

    @property
    def is_final(self) -> bool:
        return self.kind is not Kind.DEFERRED
