"""Why a message was not handed over."""

from __future__ import annotations


class Failure(Exception):
    """What stderr is to say, and the exit status (sysexits.h: `os.EX_…`)."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
