"""What is in the queue as objects for programs, one a line.

Times are in UTC, as in the log; what is not known is null. The text is ASCII without control
characters, so that it harms no terminal either. Names of keys are a promise: docs/queue.md.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from pfsmtp.mailqueue.entry import Addressee, Condition, Damaged, View
from pfsmtp.operator.prospect import Prospect
from pfsmtp.operator.reason import state_of

Object = dict[str, object]


def line(record: Object) -> str:
    """An object on one line."""
    return json.dumps(record, separators=(",", ":"))


def of_view(view: View, prospect: Prospect) -> Object:
    """One message to one destination."""
    entry = view.entry
    envelope = entry.envelope
    return {
        "id": entry.id,
        "destination": entry.domain,
        "state": view.condition.value,
        "why": prospect.why,
        "sender": str(envelope.reverse_path or ""),
        "recipients": [_recipient(each) for each in entry.addressees],
        "size": entry.size,
        "queued": stamp(entry.queued_at),
        "attempts": entry.attempts,
        "tried": stamp(entry.tried_at),
        "next": stamp(prospect.next_attempt),
        "expires": stamp(prospect.expires),
        "delay_reported": entry.delay_reported,
        "body": envelope.body,
        "smtputf8": envelope.smtputf8,
        "returning": envelope.returning,
        "envelope_id": envelope.envelope_id,
    }


def of_damaged(damaged: Damaged, *, directory: Path) -> Object:
    """A message that was set aside."""
    return {
        "state": Condition.DAMAGED.value,
        "file": path_text(directory / damaged.name),
        "size": damaged.size,
        "since": stamp(damaged.since),
    }


def stamp(when: float | None) -> str | None:
    """`2026-01-31T23:59:59Z`."""
    return None if when is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def path_text(path: Path) -> str:
    """A path as text; octets of it that are none are escaped."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _recipient(addressee: Addressee) -> Object:
    recipient, outcome = addressee.recipient, addressee.outcome
    record: Object = {
        "address": str(recipient.mailbox),
        "state": state_of(addressee),
        "owed": addressee.owed,
        "notify": sorted(recipient.notify),
        "original": recipient.original,
    }
    if outcome is not None:
        record |= {
            "status": str(outcome.status),
            "text": outcome.text,
            "command": outcome.command or None,
            "host": outcome.host or None,
            "ip": outcome.address or None,
            "tls": outcome.tls,
            "uncertain": outcome.uncertain,
        }
    return record
