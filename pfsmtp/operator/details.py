"""All that is known of one message: its envelope, how far it has come, and its text.

A message to several destinations is shown once, with each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pfsmtp.mailqueue.entry import Addressee, Entry, View
from pfsmtp.operator.listing import sender_of
from pfsmtp.operator.prospect import Prospects
from pfsmtp.operator.reason import state_of, told
from pfsmtp.operator.text import future, past, plural, size, visible, visible_line
from pfsmtp.smtp.outcome import Outcome

_HEADER_END = b"\r\n\r\n"


def description(views: Sequence[View], prospects: Prospects, *, now: float) -> Iterator[str]:
    """The lines about one message, of which there is a view for each destination."""
    entry = views[0].entry
    yield _field("message", f"{entry.id}, {size(entry.size)}{_nature(entry)}")
    yield _field("queued", past(entry.queued_at, now))
    yield _field("from", sender_of(entry))
    if parameters := _parameters(entry):
        yield _field("parameters", parameters)
    for view in views:
        yield ""
        yield from _destination(view, prospects, now=now)


def header_of(pieces: Iterable[bytes]) -> bytes:
    """The header of a message, with the end of its last line."""
    octets = bytearray()
    for piece in pieces:
        start = max(len(octets) - len(_HEADER_END) + 1, 0)
        octets += piece
        end = octets.find(_HEADER_END, start)
        if end >= 0:
            return bytes(octets[: end + 2])
    return bytes(octets)


def text_lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a message, harmless."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\r\n")
        yield from map(visible_line, lines)
    if rest:
        yield visible_line(rest)


def _destination(view: View, prospects: Prospects, *, now: float) -> Iterator[str]:
    entry, prospect = view.entry, prospects.of(view)
    yield _field("destination", f"{entry.domain}, {view.condition.value}")
    yield _field("why", prospect.why)
    yield _field("attempts", _attempts(entry, now))
    if prospect.next_attempt is not None:
        yield _field("next", future(prospect.next_attempt, now))
    yield _field("given up", future(prospect.expires, now))
    if entry.delay_reported:
        yield _field("delay", "the sender was told that it takes longer")
    for each in entry.addressees:
        yield from _recipient(each)


def _recipient(addressee: Addressee) -> Iterator[str]:
    recipient, outcome = addressee.recipient, addressee.outcome
    owed = ", the sender is still to be told" if addressee.owed else ""
    yield _field("recipient", f"{recipient.mailbox}, {state_of(addressee)}{owed}")
    if outcome is not None:
        yield _field("", f"{outcome.status} {told(outcome)}")
        if by := _by_whom(outcome):
            yield _field("", by)
    wishes = []
    if recipient.notify:
        wishes.append(f"NOTIFY={','.join(sorted(recipient.notify))}")
    if recipient.original is not None:
        wishes.append(f"ORCPT={recipient.original}")
    if wishes:
        yield _field("", " ".join(wishes))


def _by_whom(outcome: Outcome) -> str:
    """Which host it was, how it was reached, and what it was asked."""
    if not outcome.host:
        return ""
    address = f" [{outcome.address}]" if outcome.address else ""
    encrypted = f", {outcome.tls}" if outcome.tls else ""
    to = f", to {outcome.command}" if outcome.command else ""
    return f"said by {outcome.host}{address}{encrypted}{to}"


def _attempts(entry: Entry, now: float) -> str:
    if entry.tried_at is None:
        return "none yet"
    return f"{plural(entry.attempts, 'attempt')}, the last {past(entry.tried_at, now)}"


def _nature(entry: Entry) -> str:
    eight_bit = ", 8-bit" if entry.eight_bit else ""
    return eight_bit + (", long lines" if entry.long_lines else "")


def _parameters(entry: Entry) -> str:
    """What was said with MAIL, where it is not the default."""
    envelope = entry.envelope
    return " ".join(
        part
        for part in (
            f"BODY={envelope.body}" if envelope.body != "7BIT" else "",
            "SMTPUTF8" if envelope.smtputf8 else "",
            f"RET={envelope.returning}" if envelope.returning else "",
            f"ENVID={envelope.envelope_id}" if envelope.envelope_id else "",
        )
        if part
    )


def _field(name: str, text: str) -> str:
    return f"{name:<12} {visible(text)}"
