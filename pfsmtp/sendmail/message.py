"""A message of a program, made one that the server takes.

It is left as it is but for this: lines end with CRLF, whatever they ended with; a mailbox's `From `
line at the top goes; From is added where there is none; a text that stands alone, or follows the
header without an empty line, gets one; under -t, Bcc goes. Date and Message-ID are the server's to
add.
"""

from __future__ import annotations

from binascii import b2a_base64
from io import BufferedReader

from pfsmtp.sendmail.addresses import split_addresses

_RECIPIENT_FIELDS = (b"to", b"cc", b"bcc")
# RFC 5322 §3.6.6: where a message is sent again, these count.
_RESENT_RECIPIENT_FIELDS = (b"resent-to", b"resent-cc", b"resent-bcc")
_HIDDEN_FIELDS = (b"bcc", b"resent-bcc")
_ATOM = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~ "
)
_ENCODED_WORD_OCTETS = 45  # of text; RFC 2047 §2: an encoded word has at most 75 characters


def read_message(source: BufferedReader, *, dot_ends: bool) -> bytes:
    """Read a message to its end, or to a line that is a lone dot; its lines end with LF then."""
    if dot_ends:
        lines = []
        for line in source:
            if line in (b".\n", b".\r\n", b"."):
                break
            lines.append(line)
        octets = b"".join(lines)
    else:
        octets = source.read()
    return with_line_feeds(octets)


def with_line_feeds(octets: bytes) -> bytes:
    """Have every line end with LF."""
    # A CR alone, as progress bars write it, ends a line too: no server takes it as it is.
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class Message:
    """The fields of the header, each with its LF, and what follows: an empty line and the text."""

    def __init__(self, octets: bytes) -> None:
        while octets.startswith((b"From ", b">From ")):
            octets = octets.partition(b"\n")[2]
        self.fields, self.text = _split(octets)
        if self.text and not self.text.startswith(b"\n"):
            self.text = b"\n" + self.text
        elif self.fields and not self.text:
            self.fields[-1] = self.fields[-1].rstrip(b"\n") + b"\n"

    def has(self, name: bytes) -> bool:
        return any(_name(field) == name for field in self.fields)

    def recipients(self) -> list[str]:
        """Return the addresses in To, Cc and Bcc, or in their Resent- counterparts."""
        names = _RECIPIENT_FIELDS
        if any(self.has(name) for name in _RESENT_RECIPIENT_FIELDS):
            names = _RESENT_RECIPIENT_FIELDS
        found = []
        for field in self.fields:
            if _name(field) in names:
                value = field.partition(b":")[2].replace(b"\n", b" ")
                found += split_addresses(value.decode("utf-8", "surrogateescape"))
        return found

    def hide_recipients(self) -> None:
        """Take Bcc away."""
        self.fields = [field for field in self.fields if _name(field) not in _HIDDEN_FIELDS]

    def add_from(self, address: str, full_name: str) -> None:
        """Say who wrote it, if nobody is named yet."""
        if self.has(b"from"):
            return
        name = _phrase(full_name)
        author = f"{name} <{address}>" if name else address
        self.fields.append(f"From: {author}\n".encode("utf-8", "surrogateescape"))

    def on_the_wire(self) -> bytes:
        """Return it as it follows DATA: with CRLF, dots doubled, and the final dot."""
        octets = b"".join(self.fields) + self.text
        if octets and not octets.endswith(b"\n"):
            octets += b"\n"
        # RFC 5321 §4.5.2: a dot that starts a line is doubled.
        stuffed = octets.replace(b"\n.", b"\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        return stuffed.replace(b"\n", b"\r\n") + b".\r\n"


def _split(octets: bytes) -> tuple[list[bytes], bytes]:
    """Split into fields, continuations included, and what follows the last of them."""
    fields: list[bytes] = []
    at = 0
    while at < len(octets):
        end = octets.find(b"\n", at) + 1 or len(octets)
        line = octets[at:end]
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] += line
        elif _name(line):
            fields.append(line)
        else:
            break
        at = end
    return fields, octets[at:]


def _name(field: bytes) -> bytes:
    """Return the name of a field in lower case, b"" if it is none (RFC 5322 §2.2)."""
    name, colon, _ = field.partition(b":")
    name = name.rstrip(b" \t")
    if not colon or not name.isascii() or not all(33 <= octet <= 126 for octet in name):
        return b""
    return name.lower()


def _phrase(name: str) -> str:
    """Return a name as it stands before an address: as it is, quoted, or encoded (RFC 2047)."""
    name = " ".join(name.split())
    if not name.isprintable() or not name.isascii():
        return _encoded_words(name.encode("utf-8", "replace"))
    if _ATOM.issuperset(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _encoded_words(octets: bytes) -> str:
    words = []
    while octets:
        end = min(len(octets), _ENCODED_WORD_OCTETS)
        # RFC 2047 §5: no character is divided between two words.
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        encoded = b2a_base64(octets[:end], newline=False).decode("ascii")
        words.append(f"=?utf-8?B?{encoded}?=")
        octets = octets[end:]
    return " ".join(words)
