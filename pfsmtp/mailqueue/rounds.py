"""Going round: reading the whole queue for one deliverer, a file at a time.

What is new goes into the agenda, what is over leaves it. Notices that were left prepared by a
crash and count are let go. The deliverer that tidies also keeps the files in order at the end of
each round, and logs at its beginning what operators have done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pfsmtp.mailqueue import deeds, notices, survey, upkeep
from pfsmtp.mailqueue.agenda import Agenda
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.slot import Damage, Head
from pfsmtp.mailqueue.state import Phase

ROUND_EVERY = 300.0


class Reader:
    """Brings the agenda of one deliverer in line with what is read."""

    def __init__(
        self,
        files: Files,
        agenda: Agenda,
        is_mine: Callable[[str], bool],
        unclear: survey.Unclear,
    ) -> None:
        self.files = files
        self.unclear = unclear
        self._agenda = agenda
        self._is_mine = is_mine

    def consider(
        self, place: int, head: Head, octets: memoryview, *, units: range | None = None
    ) -> bool:
        """Note those units of a slot that are mine; whether any of them is not finished.

        All, or those that are wanted. Raises Damage.
        """
        in_use = False
        for number in range(head.units) if units is None else units:
            unit = head.unit(number)
            block = unit.block(octets)
            _, phase, next_attempt = unit.peek(block)
            if phase != Phase.FINISHED:
                in_use = True
                domain = unit.domain(block)
                if not self._is_mine(domain):
                    continue
                if phase == Phase.WAITING:
                    self._agenda.note(place + number, head.id, domain, due=next_attempt)
                    continue
                if phase == Phase.PREPARED:
                    self._consider_notice(place, head)
                    continue
            self._agenda.forget(place + number, head.id)
        return in_use

    def _consider_notice(self, place: int, head: Head) -> None:
        if head.notice is None or notices.counts(self.files, head.notice, head.id):
            notices.let_go(self.files, place, head.id)


class Rounds:
    """When a round is due, and how far it has come."""

    def __init__(self, files: Files, reader: Reader, *, tidies: bool, every: float) -> None:
        self._files = files
        self._reader = reader
        self._tidies = tidies
        self._every = every
        self._round: Iterator[None] | None = None
        self._next = 0.0

    def finish(self, now: float) -> None:
        """Go one whole round."""
        self._next = now + self._every
        for _ in self._go_round():
            pass

    def start_soon(self, now: float) -> None:
        """Go another round from its beginning, as soon as one that is under way has ended."""
        self._next = now

    def step(self, now: float) -> bool:
        """Read another file, if a round is due or under way; whether there is more to do."""
        if self._round is None:
            if now < self._next:
                return False
            self._next = now + self._every
            self._round = self._go_round()
        try:
            for _ in self._round:
                return True
        except OSError as error:
            self._files.log.event("queue-trouble", reason=str(error))
        self._round = None
        return False

    def _go_round(self) -> Iterator[None]:
        files = self._files
        if self._tidies:
            deeds.log(files)
            upkeep.restore_files(files)
        unused = []
        bodies = set()
        for segment in survey.segments_in(files.segments):
            in_use = False
            for place, octets, head in survey.messages(
                files.segments, segment, self._reader.unclear
            ):
                if self._consider(place, head, octets):
                    in_use = True
                    if head.measures.outside:
                        bodies.add(head.id)
            if not in_use:
                unused.append(segment)
            yield
        if self._tidies:
            upkeep.remove_spare(files, unused)
            upkeep.sweep(files, bodies, now=files.clock())

    def _consider(self, place: int, head: Head, octets: memoryview) -> bool:
        try:
            return self._reader.consider(place, head, octets)
        except Damage as damage:
            self._reader.unclear(place, damage)
            return True
