"""Header fields in ASCII: what RFC 2047 and RFC 2231 offer to those who may not send UTF-8.

What it does: encoded-words in text and in display names and comments, extended values in the
parameters of Content-Type and Content-Disposition; and long lines folded where there is space.
Octets that are not UTF-8 are labelled `unknown-8bit` (RFC 1428 §3).

What it leaves to others: which fields.  It fails with PermanentFailure for an address that is not
ASCII, for which there is no other spelling (RFC 6531 §3.2, RFC 6858).
"""

from __future__ import annotations

import re
from email.base64mime import header_encode
from email.message import Message
from email.utils import collapse_rfc2231_value, encode_rfc2231, quote
from itertools import groupby

from pfsmtp.smtp.errors import PermanentFailure

MAX_LINE = 998
"""Octets in a line, without its line end (RFC 5322 §2.1.1)."""
MAX_PARAMETERS = 4096
"""Characters of a Content-Type that are looked at: reading it takes time by their square."""

_ADDRESSES = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"})
_PARAMETERS = frozenset({b"content-type", b"content-disposition"})
# Nothing in these is for people: no encoded-word may be there (RFC 2047 §5).
_TOKENS = frozenset(
    {b"received", b"return-path", b"message-id", b"in-reply-to", b"references", b"date"}
    | {b"content-id", b"content-transfer-encoding", b"mime-version"}
)
_WORD_OCTETS = 39  # of text in an encoded-word, which is then 71 characters at most
_FOLDED = 76
_SPACE = re.compile(r"([ \t]+)")
_BLANK = re.compile(rb"[ \t]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_QUOTED_PAIR = re.compile(r"\\(.)")
_QUOTED_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"?', re.DOTALL)
# An address field apart: route addresses, phrases (with quoted strings), and the rest.  The
# quantifiers are possessive: nothing is looked at twice.
_ADDRESS_PARTS = re.compile(
    r'<[^>]*+>?|(?P<phrase>(?:"(?:[^"\\]|\\.)*+"?|[^<>,;:()@"])++)|[>,;:()@]', re.DOTALL
)


def ascii_field(field: bytes) -> bytes:
    """Return a field, given with its name and its last CRLF, in ASCII."""
    name, _, value = field.partition(b":")
    text, charset = _decoded(value.replace(b"\r\n", b"").strip())
    kind = name.strip().lower()
    if kind.removeprefix(b"resent-") in _ADDRESSES:
        encoded = _encode_addresses(text, charset)
    elif kind in _PARAMETERS and len(text) <= MAX_PARAMETERS:
        encoded = _encode_parameters(text)
    elif kind in _TOKENS | _PARAMETERS:
        encoded = text
    else:
        encoded = _encode_text(text, charset)
    plain = _NOT_ASCII.sub("?", encoded).encode("ascii")
    return fold_field(name + b": " + plain + b"\r\n", _FOLDED)


def fold_field(field: bytes, limit: int = MAX_LINE) -> bytes:
    """Break lines of more than `limit` octets where there is space; where there is none, none."""
    return b"\r\n".join(_fold_line(line, limit) for line in field.split(b"\r\n"))


def _fold_line(line: bytes, limit: int) -> bytes:
    folded: list[bytes] = []
    start = 0
    first = line.find(b":") + 2  # not between the name and its value
    while len(line) - start > limit:
        at = _last_space(line, first, start + limit + 1)
        if at < 0:
            at = _next_space(line, max(first, start + limit))
        # RFC 5322 §3.2.2: a line of nothing but space is not to be made.
        if at < 0 or not line[start:at].strip() or line[at:].isspace():
            break
        folded.append(line[start:at])
        start, first = at, at + 1
    return b"\r\n".join([*folded, line[start:]])


def _last_space(line: bytes, start: int, end: int) -> int:
    return max(line.rfind(b" ", start, end), line.rfind(b"\t", start, end))


def _next_space(line: bytes, start: int) -> int:
    found = _BLANK.search(line, start)
    return found.start() if found else -1


def _decoded(value: bytes) -> tuple[str, str]:
    """The value as text without controls, and what it is encoded in."""
    try:
        text, charset = value.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        text, charset = value.decode("latin-1"), "unknown-8bit"
    return _CONTROL.sub(" ", text), charset


def _octets(text: str, charset: str) -> bytes:
    return text.encode("utf-8" if charset == "utf-8" else "latin-1")


def _encode_text(text: str, charset: str) -> str:
    """Unstructured text (RFC 2047 §5 (1)): words that need it, with the space between them."""
    pieces = _SPACE.split(text)  # words at even places, space at odd ones
    encoded = []
    for needs, run in groupby(range(len(pieces)), key=lambda place: _needs_word(pieces, place)):
        joined = "".join(pieces[place] for place in run)
        encoded.append(_encoded_words(joined, charset) if needs else joined)
    return "".join(encoded)


def _needs_word(pieces: list[str], place: int) -> bool:
    """Whether a word is not ASCII, or a space is between two such words."""
    if place % 2 == 0:
        return not pieces[place].isascii()
    return not pieces[place - 1].isascii() and not pieces[place + 1].isascii()


def _encode_addresses(text: str, charset: str) -> str:
    """Display names and comments (RFC 2047 §5 (2), (3)); an address must be ASCII already."""
    encoded = []
    before = ""
    for part in _ADDRESS_PARTS.finditer(text):
        piece = part[0]
        if not piece.isascii():
            after = text[part.end() : part.end() + 1]
            if part["phrase"] is None or before == "@" or after == "@":
                raise PermanentFailure(
                    6, 7, "an address in the header is not ASCII, which the other server demands"
                )
            piece = _encode_phrase(piece, charset)
            piece = f"{'' if before in '(' else ' '}{piece}{'' if after in ')' else ' '}"
        encoded.append(piece)
        before = part[0][-1:]
    return "".join(encoded)


def _encode_phrase(phrase: str, charset: str) -> str:
    words = []
    for number, piece in enumerate(_QUOTED_STRING.split(phrase)):
        words.append(_QUOTED_PAIR.sub(r"\1", piece) if number % 2 else piece)
    return _encoded_words("".join(words).strip(), charset)


def _encoded_words(text: str, charset: str) -> str:
    """RFC 2047 §2: of 75 characters at most, no character split between two of them."""
    words = []
    chunk = b""
    for character in text:
        octets = _octets(character, charset)
        if len(chunk) + len(octets) > _WORD_OCTETS:
            words.append(chunk)
            chunk = b""
        chunk += octets
    words.append(chunk)
    return " ".join(header_encode(word, charset) for word in words)


def _encode_parameters(text: str) -> str:
    """Parameter values that are not ASCII as RFC 2231 §4 has them."""
    message: Message[str, str] = Message()
    message["Content-Type"] = text
    (kind, _), *parameters = message.get_params(failobj=[("", "")])
    return "; ".join([kind, *(_parameter(name, value) for name, value in parameters)])


def _parameter(name: str, value: str | tuple[str, str, str]) -> str:
    """One parameter; its value is a tuple if it has a charset of its own already."""
    plain = value if isinstance(value, str) else collapse_rfc2231_value(value)
    if plain.isascii():
        return f'{name}="{quote(plain)}"'
    return f"{name}*={encode_rfc2231(plain, 'utf-8')}"
