"""Why a message waits, in one line that a person understands; and what became of a recipient.

The words come from what the queue knows: what a remote said to which command, or, where no remote
was asked, our own reason. Pure functions; the text is not yet fit for a terminal.
"""

from __future__ import annotations

from pfsmtp.mailqueue.entry import Addressee, Condition, View
from pfsmtp.smtp.outcome import Outcome

NOT_TRIED = "not tried yet"


def why(view: View) -> str:
    """Why a unit is still in the queue."""
    match view.condition:
        case Condition.HELD:
            return _join("held by the operator", _last_word(view))
        case Condition.ACTIVE:
            return _join("an attempt is under way", _last_word(view))
        case _:
            return _last_word(view) or NOT_TRIED


def told(outcome: Outcome) -> str:
    """What happened to a recipient, and what the other side said about it, in one line."""
    reply = outcome.reply
    text = outcome.reason if reply is None else f"{outcome.reason}: {reply}"
    text = " ".join(text.split())
    return f"{text} (it may have been delivered)" if outcome.uncertain else text


def state_of(addressee: Addressee) -> str:
    """What has become of a recipient, in a word."""
    if addressee.outcome is None:
        return "waiting"
    return addressee.outcome.kind


def _last_word(view: View) -> str:
    """The last thing that is known against its delivery, "" before anything is."""
    addressees = view.entry.addressees
    pending = [each for each in addressees if each.pending]
    if not pending:
        return _join("the sender is still to be told", _reasons(addressees))
    return view.reason or _reasons(pending)


def _reasons(addressees: tuple[Addressee, ...] | list[Addressee]) -> str:
    """What was said, the first of it whole; "" if nothing was."""
    reasons = list(dict.fromkeys(told(each.outcome) for each in addressees if each.outcome))
    if not reasons:
        return ""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return reasons[0] + more


def _join(first: str, then: str) -> str:
    return f"{first}; {then}" if then else first
