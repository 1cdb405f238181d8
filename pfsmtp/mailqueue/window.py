"""The queue in files, for who only looks at it: nothing is made, written or locked.

It does not matter whether the server runs, nor whether this user may write: what can be read is
shown. What is read may be changing meanwhile, so each unit is shown as it was when it was read.

Fails with OSError: FileNotFoundError where no queue was ever kept.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pfsmtp.mailqueue import survey, upkeep
from pfsmtp.mailqueue.body import FileBody, SlotBody
from pfsmtp.mailqueue.entry import Damaged, Selection, View, text_of
from pfsmtp.mailqueue.files import Files
from pfsmtp.mailqueue.slot import Damage, Head


class Window:
    """The units of a queue, and their messages."""

    def __init__(self, path: Path) -> None:
        """Open the queue in directory `path`. Raises OSError."""
        self._files = Files(
            path,
            deliverers=0,
            log=_Silent(),
            clock=time.time,
            number=lambda: 0,
            random=os.urandom,
            only_reading=True,
        )

    def views(self, selection: Selection) -> Iterator[View]:
        """As `backend.Queue.views`."""
        return survey.views(self._files, selection)

    def damaged(self) -> list[Damaged]:
        """As `backend.Queue.damaged`."""
        return survey.damaged(self._files)

    def message(self, id: str) -> SlotBody | FileBody | None:
        """The message as it was put, seen to be whole; None when it is not there any more.

        Raises OSError, also when it is damaged.
        """
        segments = self._files.segments
        for segment in survey.segments_in(segments):
            for place, _, head in survey.messages(segments, segment, _ignore):
                if text_of(head.id) == id:
                    return self._body(segments.read(place, head.end), id)
        return None

    def close(self) -> None:
        self._files.close()

    def _body(self, octets: memoryview, id: str) -> SlotBody | FileBody | None:
        """The message in a slot, if it still is the one of that id."""
        try:
            head = Head(octets)
            if text_of(head.id) != id:
                return None
            body = bytes(octets[head.body_at : head.end])
            return upkeep.check_body(self._files, head, body)
        except Damage as damage:
            raise OSError(errno.EIO, f"it is damaged: {damage}") from damage


class _Silent:
    """A log that nobody reads: there is nothing to tell."""

    def event(self, name: str, /, **fields: object) -> None:
        pass


def _ignore(place: int, damage: Damage) -> None:
    """Whoever only looks leaves it to the deliverers."""
