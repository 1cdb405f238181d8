"""Enhanced mail system status codes (RFC 3463), as values."""

from msgspec import Struct


class Status(Struct, frozen=True, order=True, gc=False):
    """A status `class.subject.detail`; class 2 is success, 4 transient, 5 permanent."""

    kind: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.kind}.{self.subject}.{self.detail}"

    @classmethod
    def parse(cls, text: str) -> "Status | None":
        """Read `5.1.1`; None for anything that is not a status (RFC 3463 §2)."""
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
            return None
        kind, subject, detail = parts
        if kind not in ("2", "4", "5") or len(subject) > 3 or len(detail) > 3:
            return None
        return cls(int(kind), int(subject), int(detail))
