"""The envelope (RFC 5321 §2.3.1): reverse-path, recipients, and how the message came to us."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pfsmtp.smtp.address import Mailbox

Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]
Return = Literal["FULL", "HDRS"]
Body = Literal["7BIT", "8BITMIME"]


class Recipient(Struct, frozen=True):
    """One accepted forward-path with its DSN wishes (RFC 3461 §4.1, §4.2).

    `notify` is empty when the client said nothing; `original` is ORCPT, `type;text` without xtext.
    """

    mailbox: Mailbox
    notify: frozenset[Notify] = frozenset()
    original: str | None = None


class Envelope(Struct, frozen=True):
    """Who sent it and who is to have it; `reverse_path` None is the null path `<>`."""

    reverse_path: Mailbox | None
    recipients: tuple[Recipient, ...]
    body: Body = "7BIT"
    smtputf8: bool = False
    returning: Return | None = None  # RET: what a bounce quotes
    envelope_id: str | None = None  # ENVID, xtext undone


class Encryption(Struct, frozen=True):
    """What protects a connection: `TLSv1.3` and `TLS_AES_256_GCM_SHA384`."""

    version: str
    cipher: str


class Origin(Struct, frozen=True):
    """How a message came: all that its Received field says (RFC 5321 §4.4).

    `protocol` is a keyword of RFC 3848 or RFC 6531: SMTP, ESMTP, ESMTPS, UTF8SMTP, UTF8SMTPS.
    """

    client: str  # IP address, without brackets; "" when it came from no connection
    hello: str  # the argument of EHLO or HELO, as given
    protocol: str
    hostname: str  # this server
    encryption: Encryption | None = None
