"""Mailboxes (RFC 5321 §4.1.2, RFC 6531 §3.3) as values; paths are read in `command`."""

from __future__ import annotations

import re

from msgspec import Struct

# Beyond ASCII all is atext; by what is none, since a range up to the last of Unicode takes a
# noticeable part of a server's start to compile.
_ATEXT = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]'
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*\Z")


class Mailbox(Struct, frozen=True, gc=False):
    """`local_part@domain`; the local-part without quotes, the domain as given.

    `domain` is "" for `<postmaster>` alone (RFC 5321 §4.5.1), and `[…]` for an address literal.
    """

    local_part: str
    domain: str

    def __str__(self) -> str:
        """The form that goes into MAIL and RCPT: the local-part is quoted where it must be."""
        local = self.local_part
        if not (local.isalnum() or _DOT_STRING.match(local)):
            escaped = local.replace("\\", "\\\\").replace('"', '\\"')
            local = f'"{escaped}"'
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def is_literal(self) -> bool:
        return self.domain.startswith("[")

    @property
    def needs_smtputf8(self) -> bool:
        return not (self.local_part.isascii() and self.domain.isascii())
