"""What was sent, and what was answered: the promises that the server has made.

Every message is sent once, and never again: whoever finds two has found a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from threading import Lock


class Answer(Enum):
    """What came of a message, as its client saw it."""

    NONE = "unanswered"  # the connection was lost; the server may have it or not
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"


@dataclass(slots=True)
class Sent:
    """One message; the recipients are those that the server has accepted, once it has."""

    number: int
    recipients: tuple[str, ...]
    answer: Answer = Answer.NONE


class Ledger:
    """All messages of a run; clients write, everybody reads."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.promised = 0  # copies: recipients of what was acknowledged
        self.refused = 0
        self.hangs = 0  # replies that did not come in time
        self._sent: dict[int, Sent] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._sent)

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._sent.values())

    def get(self, number: int) -> Sent | None:
        return self._sent.get(number)

    def open(self, number: int, recipients: tuple[str, ...]) -> Sent:
        """A message is about to be sent."""
        sent = Sent(number, recipients)
        self._sent[number] = sent
        return sent

    def acknowledge(self, sent: Sent, recipients: tuple[str, ...]) -> None:
        """It was answered with 250, for these recipients."""
        sent.recipients = recipients
        sent.answer = Answer.ACKNOWLEDGED
        with self._lock:
            self.acknowledged += 1
            self.promised += len(recipients)

    def refuse(self, sent: Sent) -> None:
        """It was answered with 4yz or 5yz, or none of its recipients was accepted."""
        sent.answer = Answer.REFUSED
        with self._lock:
            self.refused += 1

    def note_hang(self) -> None:
        with self._lock:
            self.hangs += 1
