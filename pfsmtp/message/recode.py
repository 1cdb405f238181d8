"""Messages made fit for hosts that take less: without 8BITMIME, or lines up to 998 octets only.

What it does: parts that need it get another transfer encoding (RFC 2045 §6), quoted-printable for
text and base64 for the rest; multiparts and attached messages are gone through; header fields
become ASCII (`ascii_field`).  What needs nothing stays as it is, octet for octet: so do a message
that needs nothing, and the parts that need nothing of one that does.

What is signed is not touched: DKIM (RFC 6376) covers the body as it is transferred, and so does
multipart/signed (RFC 1847) its first part.  Other kinds of signature are of the decoded text, and
outlast another encoding.

How it fails: PermanentFailure 5.6.3 for 8-bit content that cannot be re-encoded, since it is signed
or is nested too deeply, 5.6.7 for addresses that only SMTPUTF8 can carry.  Lines that cannot be
made shorter are left, and sent as they are.  Takes and gives CRLF, and several times the memory of
the message.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message

from pfsmtp.message.ascii_field import MAX_LINE, MAX_PARAMETERS, ascii_field, fold_field
from pfsmtp.smtp.envelope import Envelope
from pfsmtp.smtp.errors import PermanentFailure

_MAX_DEPTH = 50
# RFC 5322 §2.2, §4.5.8; possessive, so that no line is looked at twice.
_FIELD = re.compile(rb"[!-9;-~]++[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z)")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64))
_EIGHT_BIT = bytes(range(128, 256))
_BASE64_LINE = 76
_READABLE = 4  # quoted-printable can be read where no more than every fourth octet is 8-bit
_TO_ASCII = bytes(range(128)) + b"?" * 128
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})
_ENCODED = frozenset({"quoted-printable", "base64"})  # and what nobody knows is taken for identity


def needs_recoding(*, eight_bit: bool, long_lines: bool, takes_eight_bit: bool) -> bool:
    """Whether a message, of which so much is known, has to go through `recode` for a host."""
    return long_lines or (eight_bit and not takes_eight_bit)


def needs_smtputf8(envelope: Envelope, header: bytes) -> bool:
    """Whether a message can be sent with SMTPUTF8 (RFC 6531) only, and not just was said to be."""
    if not envelope.smtputf8:
        return False
    mailboxes = [recipient.mailbox for recipient in envelope.recipients]
    if envelope.reverse_path is not None:
        mailboxes.append(envelope.reverse_path)
    return not header.isascii() or any(mailbox.needs_smtputf8 for mailbox in mailboxes)


def require_smtputf8(*, needed: bool, offered: bool) -> None:
    """Raise PermanentFailure where a message needs SMTPUTF8 and the other side has not got it."""
    # RFC 6531 §3.2: there is no way down from an address in UTF-8.
    if needed and not offered:
        raise PermanentFailure(
            6, 7, "the message needs SMTPUTF8, which the other server does not offer"
        )


def has_long_lines(octets: bytes) -> bool:
    """Whether there is a line of more than 998 octets."""
    position = 0
    while len(octets) - position > MAX_LINE:
        end = octets.rfind(b"\n", position, position + MAX_LINE + len("\r\n"))
        if end < 0:
            return True
        position = end + 1
    return False


def recode(message: bytes, *, seven_bit: bool) -> bytes:
    """Return the message with lines of up to 998 octets and, for a `seven_bit` host, in ASCII.

    Raises PermanentFailure.
    """
    return _Recoder(seven_bit=seven_bit).recode(message)


@dataclass(frozen=True, slots=True)
class _Content:
    """What the header of an entity says of its body (RFC 2045)."""

    type: str
    encoding: str  # "" when none is given
    boundary: bytes = b""

    @property
    def is_fixed(self) -> bool:
        """Whether it has no encoding and cannot be gone through (RFC 2045 §6.4, RFC 6532 §3.7)."""
        kind, _, subtype = self.type.partition("/")
        return kind == "message" and subtype != "rfc822" and not subtype.startswith("global")


class _Recoder:
    """Re-encodes what has 8-bit octets, if these are not wanted, or long lines."""

    def __init__(self, *, seven_bit: bool) -> None:
        self._seven_bit = seven_bit

    def recode(self, message: bytes) -> bytes:
        fields = list(_fields(message))
        if any(_name(field) == b"dkim-signature" for field in fields):
            return self._untouched(message, "is signed (DKIM)")
        return self._entity(message, "text/plain", depth=0, is_message=True)

    def _needs(self, octets: bytes) -> bool:
        return self._is_too_wide(octets) or has_long_lines(octets)

    def _is_too_wide(self, octets: bytes) -> bool:
        return self._seven_bit and not octets.isascii()

    def _untouched(self, octets: bytes, why: str) -> bytes:
        """What cannot be re-encoded goes out as it is, or not at all."""
        if self._is_too_wide(octets):
            raise PermanentFailure(
                6, 3, f"the message {why}, and the other server takes no 8-bit content"
            )
        return octets

    def _entity(self, octets: bytes, default: str, *, depth: int, is_message: bool) -> bytes:
        """A message or a part of one; `default` is its type where it does not say (RFC 2046)."""
        if not self._needs(octets):
            return octets
        fields = list(_fields(octets))
        body = octets[sum(map(len, fields)) :].removeprefix(b"\r\n")
        content = _content(fields, default)
        if content.type == "multipart/signed":
            return self._untouched(octets, "is signed")
        if content.is_fixed or depth > _MAX_DEPTH:
            return self._untouched(octets, "cannot be re-encoded")
        if self._needs(body):
            recoded, encoding = self._body(body, content, depth=depth)
            if encoding not in _IDENTITY and content.encoding not in _ENCODED:
                fields = _with_mime(fields, body, is_message=is_message)
            fields = _relabelled(fields, encoding)
            body = recoded
        return b"".join(map(self._field, fields)) + b"\r\n" + body

    def _field(self, field: bytes) -> bytes:
        if self._is_too_wide(field):
            field = ascii_field(field)
        return fold_field(field) if has_long_lines(field) else field

    def _body(self, body: bytes, content: _Content, *, depth: int) -> tuple[bytes, str]:
        """Return the body, and its encoding from now on."""
        if content.encoding in _ENCODED:
            return _encode_again(body, content)
        if content.boundary and any(_delimiters(body, content.boundary)):
            return self._multipart(body, content, depth=depth), self._composite(content)
        if content.type == "message/rfc822":
            message = self._entity(body, "text/plain", depth=depth + 1, is_message=True)
            return message, self._composite(content)
        return _encode(body, content.type)

    def _composite(self, content: _Content) -> str:
        """RFC 2045 §6.4: what holds other entities has no encoding, but says how wide they are."""
        if self._seven_bit:
            return "7bit"
        return content.encoding if content.encoding in _IDENTITY else "8bit"

    def _multipart(self, body: bytes, content: _Content, *, depth: int) -> bytes:
        """Re-encode part by part (RFC 2046 §5.1); the delimiters stay where they are."""
        default = "message/rfc822" if content.type == "multipart/digest" else "text/plain"
        pieces = []
        place, inside = 0, False
        for delimiter in _delimiters(body, content.boundary):
            between = body[place : delimiter.start()]
            pieces.append(
                self._part(between, default, depth=depth) if inside else self._aside(between)
            )
            pieces.append(delimiter[0])
            place, inside = delimiter.end(), delimiter[1] is None
        rest = body[place:]
        pieces.append(self._part(rest, default, depth=depth) if inside else self._aside(rest))
        return b"".join(pieces)

    def _aside(self, octets: bytes) -> bytes:
        """RFC 2046 §5.1.1: what stands before and after the parts is for nobody to read."""
        return octets.translate(_TO_ASCII) if self._seven_bit else octets

    def _part(self, octets: bytes, default: str, *, depth: int) -> bytes:
        # RFC 2046 §5.1.1: the CRLF before a delimiter belongs to the delimiter.
        part = octets.removesuffix(b"\r\n")
        recoded = self._entity(part, default, depth=depth + 1, is_message=False)
        return recoded + octets[len(part) :]


def _fields(octets: bytes) -> Iterator[bytes]:
    """The fields at the beginning, each with all its lines."""
    place = 0
    while found := _FIELD.match(octets, place):
        yield found[0]
        place = found.end()


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].strip().lower()


def _content(fields: Sequence[bytes], default: str) -> _Content:
    message: Message[str, str] = Message()
    message.set_default_type(default)
    for field in fields:
        name, _, value = field.partition(b":")
        if _name(field) in (b"content-type", b"content-transfer-encoding"):
            unfolded = value[:MAX_PARAMETERS].replace(b"\r\n", b"").decode("latin-1")
            message[name.strip().decode("ascii")] = unfolded.strip()
    boundary = message.get_boundary("") if message.get_content_maintype() == "multipart" else ""
    return _Content(
        message.get_content_type(),
        message.get("Content-Transfer-Encoding", "").lower(),
        boundary.encode("latin-1", "replace"),
    )


def _delimiters(body: bytes, boundary: bytes) -> Iterator[re.Match[bytes]]:
    """The delimiter lines up to the last, whose first group is its end (RFC 2046 §5.1.1)."""
    pattern = rb"(?:\A|(?<=\n))--%b(--)?[ \t]*+(?:\r?\n|\Z)" % re.escape(boundary)
    for delimiter in re.finditer(pattern, body):
        yield delimiter
        if delimiter[1]:
            return


def _relabelled(fields: Sequence[bytes], encoding: str) -> list[bytes]:
    """The fields with another Content-Transfer-Encoding; identity is not said where nothing was."""
    label = f"Content-Transfer-Encoding: {encoding}\r\n".encode("ascii")
    relabelled = [field for field in fields if _name(field) != b"content-transfer-encoding"]
    if len(relabelled) < len(fields) or encoding not in _IDENTITY:
        relabelled.append(label)
    return relabelled


def _with_mime(fields: Sequence[bytes], body: bytes, *, is_message: bool) -> list[bytes]:
    """The fields of what is about to be encoded: it has to say that, and what, it is in MIME."""
    names = {_name(field) for field in fields}
    added = []
    if is_message and b"mime-version" not in names:
        added.append(b"MIME-Version: 1.0\r\n")
    if b"content-type" not in names and not body.isascii():
        added.append(b"Content-Type: text/plain; charset=%b\r\n" % _charset(body))
    return [*fields, *added]


def _charset(body: bytes) -> bytes:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return b"unknown-8bit"  # RFC 1428 §3
    return b"utf-8"


def _encode_again(body: bytes, content: _Content) -> tuple[bytes, str]:
    """What is encoded already, but has lines too long or 8-bit octets that must not be there."""
    if content.encoding == "base64":
        # RFC 2045 §6.8: octets outside the alphabet are to be ignored, and so are left out.
        letters = body.translate(None, _NOT_BASE64)
        lines = (
            letters[place : place + _BASE64_LINE] for place in range(0, len(letters), _BASE64_LINE)
        )
        return b"".join(line + b"\r\n" for line in lines), content.encoding
    return _encode(binascii.a2b_qp(body), content.type)


def _encode(octets: bytes, content_type: str) -> tuple[bytes, str]:
    """Quoted-printable for lines of text that are mostly ASCII, base64 for everything else."""
    if content_type.startswith(("text/", "message/", "multipart/")) and _is_lines(octets):
        eight_bit = len(octets) - len(octets.translate(None, _EIGHT_BIT))
        if eight_bit * _READABLE <= len(octets):
            quoted = binascii.b2a_qp(octets, istext=True)
            return quoted.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), "quoted-printable"
    return base64.encodebytes(octets).replace(b"\n", b"\r\n"), "base64"


def _is_lines(octets: bytes) -> bool:
    """Whether all CR and LF are line ends, and there is no NUL."""
    ends = octets.count(b"\r\n")
    return octets.count(b"\r") == ends == octets.count(b"\n") and b"\0" not in octets
