"""The families of errors the rooms above share.

* `PeerError`: the other side of a dialogue erred; it carries the reply to send.
* `TransientFailure`, `PermanentFailure`: a delivery failed for now, or for good;
  they carry the status and a text for whoever sent the message.
* Anything else is a bug: it is logged with its traceback, and answered 421.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfsmtp.smtp.status import Status

if TYPE_CHECKING:
    from pfsmtp.smtp.reply import Reply


class PeerError(Exception):
    """The client broke the protocol; `reply` says how."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


class DeliveryFailure(Exception):
    """A message, or one recipient of it, was not taken on.

    `text` is for the sender and holds nothing of this machine's (no paths, no errno);
    the cause, for the log, is chained with `raise … from`.
    """

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text


class TransientFailure(DeliveryFailure):
    """It may succeed later: 4yz, the message is kept by whoever has it."""

    def __init__(self, subject: int, detail: int, text: str) -> None:
        super().__init__(Status(4, subject, detail), text)


class PermanentFailure(DeliveryFailure):
    """It will not succeed: 5yz, or a bounce."""

    def __init__(self, subject: int, detail: int, text: str) -> None:
        super().__init__(Status(5, subject, detail), text)
