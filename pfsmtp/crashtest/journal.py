"""What the server's log says went wrong, and which deliveries it says are done.

The log is read once, when the server has stopped. What a kill breaks off in the midst of a line is
no fault of the line.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pfsmtp.crashtest.remote import number_of

_EVENT = re.compile(rb'\{"ts":"([^"]+)","event":"([a-z-]+)"')
_DAMAGE = frozenset((b"queue-damaged", b"queue-file-short", b"queue-file-foreign"))
_KILLED = "signal 9"


@dataclass(slots=True)
class Journal:
    """What is of interest in a log."""

    faults: list[str] = field(default_factory=list)
    delivered: dict[tuple[int, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    """When it was noted that a recipient of a message is done, in Unix seconds, to a millisecond
    below; messages by number, of those that were asked about."""


def read(path: Path, about: frozenset[int] = frozenset()) -> Journal:
    """Read a log; `about` are the messages whose deliveries are of interest."""
    journal = Journal()
    for name, line in _lines(path):
        if name == b"delivered":
            if about:
                _note_delivery(journal, line, about)
        elif name.endswith(b"-bug"):
            journal.faults.append(f"the log has a bug: {_short(line)}")
        elif name in _DAMAGE:
            journal.faults.append(f"the queue was damaged: {_short(line)}")
        elif name == b"worker-stuck":
            journal.faults.append(f"a worker hung: {_short(line)}")
        elif name == b"worker-died" and (event := _read(line)) and event.get("exit") != _KILLED:
            journal.faults.append(f"a worker died by itself: {_short(line)}")
    return journal


def _lines(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The name of each event, and its whole line."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            found = _EVENT.match(line)
            if found is not None:
                yield found[2], line


def _note_delivery(journal: Journal, line: bytes, about: frozenset[int]) -> None:
    event = _read(line)
    number = number_of(event.get("sender", ""))
    if number in about:
        when = datetime.fromisoformat(event["ts"]).timestamp()
        journal.delivered[number, event["recipient"]].append(when)


def _read(line: bytes) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return event


def _short(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()[:400]
