"""What the server says (RFC 5321 §4.2), as values.

A reply is a code, an enhanced status (RFC 2034, RFC 3463) and lines of text; what follows it on the
connection is a field, `after`, and never a number to be known by heart.
"""

from __future__ import annotations

from enum import Enum, auto

from msgspec import Struct
from msgspec.structs import force_setattr

from pfsmtp.smtp.status import Status


class After(Enum):
    """What the server does once a reply has left."""

    GO_ON = auto()
    START_TLS = auto()
    CLOSE = auto()


class Reply(Struct, frozen=True, gc=False):
    """One reply; `detail` is subject and detail of its status, whose class is the code's digit."""

    code: int
    text: str | tuple[str, ...]
    detail: tuple[int, int] | None = None
    after: After = After.GO_ON
    octets: bytes = b""
    """All lines as they go on the wire, in one piece (RFC 5321 §4.2.1); made of the others."""

    def __post_init__(self) -> None:
        force_setattr(self, "octets", self._encode())

    @property
    def lines(self) -> tuple[str, ...]:
        return self.text if isinstance(self.text, tuple) else (self.text,)

    @property
    def status(self) -> Status | None:
        if self.detail is None:
            return None
        return Status(self.code // 100, *self.detail)

    @property
    def refuses(self) -> bool:
        return self.code >= 400

    def _encode(self) -> bytes:
        code = self.code
        status = f"{self.status} " if self.detail else ""
        *first, last = self.lines
        wire = "".join([f"{code}-{status}{line}\r\n" for line in first])
        return f"{wire}{code} {status}{last}\r\n".encode("utf-8", "replace")
