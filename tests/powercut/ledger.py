"""What was answered, and how far the record of the disk was when the answer had come."""

from __future__ import annotations

from collections.abc import Callable

from pfsmtp.crashtest.ledger import Answer, Ledger, Sent


class RecordedLedger(Ledger):
    """A ledger that can be looked at as it was at any power cut."""

    def __init__(self, position: Callable[[], int]) -> None:
        super().__init__()
        self._position = position
        self._opened: dict[int, int] = {}
        self._answered: dict[int, int] = {}

    def open(self, number: int, recipients: tuple[str, ...]) -> Sent:
        self._opened[number] = self._position()
        return super().open(number, recipients)

    def acknowledge(self, sent: Sent, recipients: tuple[str, ...]) -> None:
        super().acknowledge(sent, recipients)
        self._answered[sent.number] = self._position()

    def refuse(self, sent: Sent) -> None:
        super().refuse(sent)
        self._answered[sent.number] = self._position()

    def as_of(self, position: int) -> Ledger:
        """What had been sent and answered when the record had so many entries."""
        ledger = Ledger()
        for sent in self:
            number = sent.number
            if self._opened[number] > position:
                continue
            then = ledger.open(number, sent.recipients)
            if self._answered.get(number, position + 1) > position:
                continue
            if sent.answer is Answer.ACKNOWLEDGED:
                ledger.acknowledge(then, sent.recipients)
            else:
                ledger.refuse(then)
        return ledger

    def answers(self) -> list[int]:
        """How far the record was at each answer."""
        return list(self._answered.values())
