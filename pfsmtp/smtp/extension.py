"""The parameters of MAIL and RCPT, each with its syntax errors.

SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET, ENVID, NOTIFY and ORCPT (RFC 3461).
Whether what they ask for can be granted is for `handlers` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

from msgspec import Struct
from msgspec.structs import replace

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Body, Notify, Recipient, Return
from pfsmtp.smtp.errors import PeerError
from pfsmtp.smtp.reply import Reply

# RFC 5321 §4.1.2: esmtp-keyword and esmtp-value
_KEYWORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_VALUE = re.compile(rb"[\x21-\x3c\x3e-\x7e\x80-\xff]+\Z")

# RFC 3461 §4: xtext
_XTEXT = re.compile(r"(?:[^\x00-\x20+=\x7f]|\+[0-9A-F]{2})+\Z")
_XTEXT_OCTET = re.compile(r"\+([0-9A-F]{2})")

_NOTIFY: dict[str, Notify] = {"SUCCESS": "SUCCESS", "FAILURE": "FAILURE", "DELAY": "DELAY"}
_RETURN: dict[str, Return] = {"FULL": "FULL", "HDRS": "HDRS"}
_BODY: dict[str, Body] = {"7BIT": "7BIT", "8BITMIME": "8BITMIME"}


class MailParameters(Struct, frozen=True):
    """What MAIL said behind the reverse-path; `size` is 0 when it said nothing."""

    size: int = 0
    body: Body = "7BIT"
    smtputf8: bool = False
    returning: Return | None = None
    envelope_id: str | None = None


NO_PARAMETERS = MailParameters()


def mail_parameters(rest: bytes, *, dsn: bool) -> MailParameters:
    """Read what follows the reverse-path. Raises PeerError: 501 for bad syntax, 555 if unknown."""
    if not rest:
        return NO_PARAMETERS
    parameters = NO_PARAMETERS
    for keyword, value in _split(rest):
        read = _MAIL.get(keyword) or (_MAIL_DSN.get(keyword) if dsn else None)
        if read is None:
            _unknown(keyword)
        parameters = read(parameters, value)
    return parameters


def recipient(mailbox: Mailbox, rest: bytes, *, dsn: bool) -> Recipient:
    """Read what follows the forward-path. Raises PeerError, as `mail_parameters` does."""
    result = Recipient(mailbox)
    for keyword, value in _split(rest) if rest else ():
        read = _RCPT_DSN.get(keyword) if dsn else None
        if read is None:
            _unknown(keyword)
        result = read(result, value)
    return result


def _split(rest: bytes) -> list[tuple[str, str | None]]:
    found: dict[str, str | None] = {}
    for word in rest.split(b" "):
        keyword, equals, value = word.partition(b"=")
        if not _KEYWORD.match(keyword) or (equals and not _VALUE.match(value)):
            _syntax("Parameters are like KEYWORD or KEYWORD=value, one space before each")
        name = keyword.decode("ascii").upper()
        if name in found:
            _syntax(f"{name} is given twice")
        try:
            found[name] = value.decode("utf-8") if equals else None
        except UnicodeDecodeError:
            _syntax(f"The value of {name} is not UTF-8")
    return list(found.items())


def _syntax(text: str) -> NoReturn:
    raise PeerError(Reply(501, text, (5, 4)))


def _unknown(keyword: str) -> NoReturn:
    # RFC 5321 §4.1.1.11: 555 for parameters that are not recognized
    raise PeerError(Reply(555, f"{keyword[:40]} is not a parameter known here", (5, 4)))


def _size(parameters: MailParameters, value: str | None) -> MailParameters:
    # RFC 1870 §3: size-value is 1 to 20 digits
    if not value or not value.isascii() or not value.isdigit() or len(value) > 20:
        _syntax("SIZE is a number of octets, like SIZE=12345")
    return replace(parameters, size=int(value))


def _body(parameters: MailParameters, value: str | None) -> MailParameters:
    body = _BODY.get((value or "").upper())
    if body is None:
        _syntax("BODY is 7BIT or 8BITMIME")
    return replace(parameters, body=body)


def _smtputf8(parameters: MailParameters, value: str | None) -> MailParameters:
    if value is not None:
        _syntax("SMTPUTF8 has no value")
    return replace(parameters, smtputf8=True)


def _ret(parameters: MailParameters, value: str | None) -> MailParameters:
    returning = _RETURN.get((value or "").upper())
    if returning is None:
        _syntax("RET is FULL or HDRS")
    return replace(parameters, returning=returning)


def _envid(parameters: MailParameters, value: str | None) -> MailParameters:
    # RFC 3461 §4.4: at most 100 characters
    if not value or len(value) > 100:
        _syntax("ENVID is xtext of at most 100 characters")
    return replace(parameters, envelope_id=_xtext("ENVID", value))


def _notify(result: Recipient, value: str | None) -> Recipient:
    words = (value or "").upper().split(",")
    if words == ["NEVER"]:
        return replace(result, notify=frozenset[Notify](("NEVER",)))
    if len(set(words)) != len(words) or not all(word in _NOTIFY for word in words):
        _syntax("NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY")
    return replace(result, notify=frozenset(_NOTIFY[word] for word in words))


def _orcpt(result: Recipient, value: str | None) -> Recipient:
    # RFC 3461 §4.2: at most 500 characters, an address type and the address in xtext
    kind, semicolon, address = (value or "").partition(";")
    if not semicolon or not _KEYWORD.match(kind.encode()) or not address or len(value or "") > 500:
        _syntax("ORCPT is like rfc822;alice@example.org, in xtext")
    return replace(result, original=f"{kind};{_xtext('ORCPT', address)}")


def _xtext(keyword: str, value: str) -> str:
    """Undo xtext. Octets that would break a line of a report are refused, encoded or not."""
    if not _XTEXT.match(value):
        _syntax(f"{keyword} is not xtext")
    octets = bytearray()
    position = 0
    for escape in _XTEXT_OCTET.finditer(value):
        octets += value[position : escape.start()].encode()
        octets.append(int(escape[1], 16))
        position = escape.end()
    octets += value[position:].encode()
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        _syntax(f"{keyword} is not UTF-8")
    if not text.isprintable():
        _syntax(f"{keyword} holds control characters")
    return text


_ReadMail = Callable[[MailParameters, str | None], MailParameters]

_MAIL: dict[str, _ReadMail] = {"SIZE": _size, "BODY": _body, "SMTPUTF8": _smtputf8}
_MAIL_DSN: dict[str, _ReadMail] = {"RET": _ret, "ENVID": _envid}
_RCPT_DSN: dict[str, Callable[[Recipient, str | None], Recipient]] = {
    "NOTIFY": _notify,
    "ORCPT": _orcpt,
}
