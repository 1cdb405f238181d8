"""The command lines that a client sends (RFC 5321 §4.1.1), as octets with their CRLF.

Nothing is asked of the other side here: what it offers comes in as `Capabilities`, and parameters
it does not know are left out. Whether the message may be sent without them is for the caller to
decide.
"""

from __future__ import annotations

import re
from base64 import b64encode

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client.remote import Capabilities
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import PermanentFailure

DATA = b"DATA\r\n"
QUIT = b"QUIT\r\n"
RSET = b"RSET\r\n"
STARTTLS = b"STARTTLS\r\n"

# RFC 3461 §4.2: an ORCPT parameter has 500 characters at most.
_MAX_ORCPT = 500

_ATOM = re.compile(r"[A-Za-z0-9-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_XCHAR = re.compile(r"[^!-*,-<>-~]")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")


def hello(verb: str, hostname: str) -> bytes:
    """EHLO or HELO (RFC 5321 §4.1.1.1)."""
    return f"{verb} {hostname}\r\n".encode("ascii")


def mail(
    envelope: Envelope, capabilities: Capabilities, *, size: int, eight_bit: bool, smtputf8: bool
) -> bytes:
    """MAIL, with what the message needs and the other side knows (RFC 5321 §4.1.1.2)."""
    line = f"MAIL FROM:<{_path(envelope.reverse_path)}>"
    if capabilities.takes_size:
        line += f" SIZE={size}"
    if eight_bit and capabilities.eight_bit:
        line += " BODY=8BITMIME"
    if smtputf8 and capabilities.smtputf8:
        line += " SMTPUTF8"
    if capabilities.dsn:
        if envelope.returning is not None:
            line += f" RET={envelope.returning}"
        if envelope.envelope_id is not None and envelope.envelope_id.isascii():
            line += f" ENVID={_xtext(envelope.envelope_id)}"
    return f"{line}\r\n".encode()


def rcpt(recipient: Recipient, capabilities: Capabilities) -> bytes:
    """RCPT, with the recipient's DSN wishes where the other side knows them (RFC 3461 §5.2.1)."""
    line = f"RCPT TO:<{_path(recipient.mailbox)}>"
    if capabilities.dsn:
        if recipient.notify:
            line += f" NOTIFY={','.join(sorted(recipient.notify))}"
        if recipient.original is not None:
            line += _original(recipient.original)
    return f"{line}\r\n".encode()


def auth_plain(login: str, password: str) -> bytes:
    """AUTH PLAIN with its initial response (RFC 4616 §2)."""
    return b"AUTH PLAIN " + base64_line(f"\0{login}\0{password}")


def base64_line(text: str) -> bytes:
    """An answer to a 334 (RFC 4954 §4)."""
    return b64encode(text.encode()) + b"\r\n"


def _path(mailbox: Mailbox | None) -> str:
    """What stands between the angle brackets.

    A control character would end the command and begin another; the server's side lets none in,
    and the queue may have come from elsewhere.
    """
    if mailbox is None:
        return ""
    path = str(mailbox)
    if not path.isprintable() and _CONTROL.search(path):
        raise PermanentFailure(1, 3, "the address holds control characters")
    return path


def _original(original: str) -> str:
    """ORCPT (RFC 3461 §4.2); "" where it cannot be said."""
    kind, _, address = original.partition(";")
    if kind.lower() == "utf-8":
        # RFC 6533 §3: utf-8-addr-xtext, which needs no SMTPUTF8 of the other side.
        encoded = _NOT_QCHAR.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address)
    elif _ATOM.fullmatch(kind) and address.isascii():
        encoded = _xtext(address)
    else:
        return ""
    parameter = f" ORCPT={kind};{encoded}"
    return parameter if len(parameter) <= _MAX_ORCPT else ""


def _xtext(text: str) -> str:
    """ASCII as xtext (RFC 3461 §4)."""
    return _NOT_XCHAR.sub(lambda match: f"+{ord(match[0]):02X}", text)
