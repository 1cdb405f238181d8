"""What arrives at the host that an outbound server relays to, and the reports of what does not.

`Remote` is such a host as the test sees it. The reverse-path of each message holds its number, so
that a host knows at RCPT already what it is about, and a report comes back under that number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from pfsmtp.crashtest.program import Subject

_SENDER = re.compile(r"crashtest\+([0-9]+)@")
_FINAL_RECIPIENT = re.compile(rb"^Final-Recipient: *rfc822; *(\S+)", re.MULTILINE | re.IGNORECASE)
_MESSAGE_ID = re.compile(rb"^Message-ID: *(\S+)", re.MULTILINE | re.IGNORECASE)
_BOUNDARY = re.compile(rb'boundary="([^"]+)"')
_FAILED = re.compile(rb"^Action: *failed\b", re.MULTILINE | re.IGNORECASE)


@dataclass(slots=True)
class Arrival:
    """A message that the remote has taken, for one recipient."""

    number: int
    recipient: str
    at: float  # in Unix seconds, when its end was seen
    unanswered: bool = False  # on purpose: the remote has hung up in place of its reply
    cut: bool = False  # the connection it came by was lost, then or later


@dataclass(frozen=True, slots=True)
class Report:
    """A report that a message could not be delivered to these."""

    number: int
    recipients: tuple[str, ...]
    id: str  # its Message-ID
    at: float


class Remote(Protocol):
    """Where mail is relayed to."""

    @property
    def port(self) -> int: ...

    @property
    def arrivals(self) -> Sequence[Arrival]: ...

    @property
    def reports(self) -> Sequence[Report]: ...

    @property
    def faults(self) -> Sequence[str]:
        """What arrived and is no whole message, or not what it should be."""
        ...

    def pick(self, random: Random) -> str:
        """Choose a recipient that mail can be sent to."""
        ...

    def takes(self, recipient: str) -> bool:
        """Whether mail for this recipient is not deferred for ever."""
        ...

    def sender(self, number: int) -> str:
        """The reverse-path of a message, to which reports about it go."""
        ...

    @property
    def subjects(self) -> Sequence[Subject]:
        """The servers behind it, which are killed as well."""
        ...

    def begin(self) -> None:
        """Begin to look at what arrives."""
        ...

    def finish(self) -> list[str]:
        """Look once more, when all servers have stopped; return what went wrong there."""
        ...

    def close(self) -> None: ...


def sender(number: int, domain: str) -> str:
    """The reverse-path of a message."""
    return f"crashtest+{number}@{domain}"


def number_of(mailbox: str) -> int | None:
    """Which message has this reverse-path; None if none."""
    found = _SENDER.match(mailbox)
    return int(found[1]) if found else None


def read_report(octets: bytes, number: int, *, at: float) -> Report | None:
    """Read a report about a message; None when this is none, or not a whole one."""
    octets = octets.replace(b"\r\n", b"\n")
    unfolded = octets.replace(b"\n ", b" ")
    boundary, id = _BOUNDARY.search(unfolded), _MESSAGE_ID.search(unfolded)
    recipients = _FINAL_RECIPIENT.findall(unfolded)
    if not (boundary and id and recipients and _FAILED.search(unfolded)):
        return None
    if not octets.endswith(b"--" + boundary[1] + b"--\n"):
        return None
    names = tuple(recipient.decode("ascii", "replace") for recipient in recipients)
    return Report(number, names, id[1].decode("ascii", "replace"), at)
