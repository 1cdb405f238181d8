"""What keeps the operator from what was asked for, in words that say what to do."""

from __future__ import annotations

import os
import pwd
import sys
from contextlib import suppress
from errno import EACCES, EPERM
from pathlib import Path

from pfsmtp.operator.text import visible


class QueueError(Exception):
    """It cannot be done; the text is for the operator."""


def tell(text: str) -> None:
    """Say something to the operator that is not the answer."""
    print(f"pfsmtp: {visible(text)}", file=sys.stderr)


def no_such(id: str) -> str:
    """What is wrong when no message has this ID."""
    return f"there is no message {id} in the queue"


def of_system(error: OSError, directory: Path) -> QueueError:
    """The error when the system does not give what is needed of the queue in `directory`."""
    remedy = ""
    if error.errno in (EACCES, EPERM) and (owner := _owner(directory)):
        remedy = f"; do this as {owner}, whose queue it is, or as root"
    return QueueError(f"the queue in {directory}: {error.strerror or error}{remedy}")


def _owner(directory: Path) -> str:
    """The user whose directory it is, "" if that cannot be seen."""
    with suppress(OSError):
        uid = os.stat(directory).st_uid
        with suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
        return f"the user with id {uid}"
    return ""
