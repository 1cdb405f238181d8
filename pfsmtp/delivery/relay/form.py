"""The message as a host can take it: as it is, re-encoded, or not at all.

What a host cannot take is refused here in its place, before anything is sent: too large (RFC 1870),
international without SMTPUTF8 (RFC 6531). 8-bit content for a host without 8BITMIME (RFC 6152 §3)
and lines of more than 998 octets are re-encoded (`message.recode`).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from pfsmtp.delivery.relay.content import OctetsContent
from pfsmtp.message.header import header_of
from pfsmtp.message.recode import needs_recoding, needs_smtputf8, recode, require_smtputf8
from pfsmtp.smtp.client.remote import Capabilities
from pfsmtp.smtp.client.transaction import Content
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import PermanentFailure


class Unit(Struct, frozen=True):
    """One message to one destination, for those recipients that are to be tried."""

    id: str
    domain: str
    envelope: Envelope
    recipients: Sequence[Recipient]
    content: Content
    eight_bit: bool = False  # it holds octets above 127
    long_lines: bool = False  # it holds lines of more than 998 octets


class Form(Struct, frozen=True):
    """What is sent to one host, and what has to be said of it."""

    content: Content
    eight_bit: bool
    smtputf8: bool


class Forms:
    """The forms of one message; each is made once at most."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._recoded: dict[bool, bytes] = {}  # by whether it is for a 7-bit host
        self._international: bool | None = None

    def form_for(self, capabilities: Capabilities, host: str) -> Form:
        """The form for this host. Raises DeliveryFailure."""
        unit = self._unit
        smtputf8 = unit.envelope.smtputf8 and capabilities.smtputf8
        if unit.envelope.smtputf8 and not smtputf8:
            require_smtputf8(needed=self._is_international(), offered=False)
        content, eight_bit = unit.content, unit.eight_bit
        if needs_recoding(
            eight_bit=eight_bit,
            long_lines=unit.long_lines,
            takes_eight_bit=capabilities.eight_bit,
        ):
            octets = self._recode(seven_bit=not capabilities.eight_bit)
            content, eight_bit = OctetsContent(octets), not octets.isascii()
        if capabilities.size is not None and content.size > capabilities.size:
            # RFC 1870 §6.1: there is no use in trying.
            raise PermanentFailure(
                3, 4, f"{host} takes messages of {capabilities.size} octets, not of {content.size}"
            )
        return Form(content, eight_bit, smtputf8)

    def _is_international(self) -> bool:
        """Whether it needs SMTPUTF8, and was not just said to."""
        if self._international is None:
            self._international = needs_smtputf8(self._unit.envelope, header_of(self._read()))
        return self._international

    def _recode(self, *, seven_bit: bool) -> bytes:
        octets = self._recoded.get(seven_bit)
        if octets is None:
            octets = self._recoded[seven_bit] = recode(self._read(), seven_bit=seven_bit)
        return octets

    def _read(self) -> bytes:
        return b"".join(self._unit.content.pieces())
