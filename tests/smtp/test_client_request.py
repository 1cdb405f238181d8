"""The commands a client sends, to the octet."""

from __future__ import annotations

import pytest

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client import request
from pfsmtp.smtp.client.remote import Capabilities
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import PermanentFailure

DSN = Capabilities(dsn=True)
ALL = Capabilities(dsn=True, takes_size=True, eight_bit=True, smtputf8=True)


def mail(
    sender: Mailbox | None,
    capabilities: Capabilities = ALL,
    *,
    eight_bit: bool = False,
    envelope_id: str | None = None,
) -> bytes:
    envelope = Envelope(sender, (), envelope_id=envelope_id)
    return request.mail(envelope, capabilities, size=5, eight_bit=eight_bit, smtputf8=False)


def original(text: str) -> bytes:
    """The ORCPT parameter that comes of this original recipient."""
    line = request.rcpt(Recipient(Mailbox("b", "example.org"), original=text), DSN)
    return line.removeprefix(b"RCPT TO:<b@example.org>").removesuffix(b"\r\n").lstrip()


@pytest.mark.parametrize(
    ("sender", "line"),
    [
        (None, b"MAIL FROM:<> SIZE=5\r\n"),
        (Mailbox("a", "example.org"), b"MAIL FROM:<a@example.org> SIZE=5\r\n"),
        (Mailbox('a "b"\\', "example.org"), b'MAIL FROM:<"a \\"b\\"\\\\"@example.org> SIZE=5\r\n'),
        (Mailbox("a>b", "[192.0.2.1]"), b'MAIL FROM:<"a>b"@[192.0.2.1]> SIZE=5\r\n'),
        (Mailbox("ä", "exämple.org"), "MAIL FROM:<ä@exämple.org> SIZE=5\r\n".encode()),
    ],
)
def test_reverse_path(sender: Mailbox | None, line: bytes) -> None:
    assert mail(sender) == line


@pytest.mark.parametrize("local_part", ["a\r\nRCPT TO:<x@y>", "a\nb", "a\rb", "a\0b", "a\x7fb"])
def test_address_never_ends_a_command(local_part: str) -> None:
    with pytest.raises(PermanentFailure) as caught:
        request.rcpt(Recipient(Mailbox(local_part, "example.org")), ALL)
    assert str(caught.value.status) == "5.1.3"


def test_what_is_not_offered_is_left_out() -> None:
    assert mail(None, Capabilities(), eight_bit=True, envelope_id="x") == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize(
    ("text", "xtext"),
    [
        ("a+b=c", b"a+2Bb+3Dc"),
        ("a b\r\n", b"a+20b+0D+0A"),
        ("\x00~!\x7f", b"+00~!+7F"),
    ],
)
def test_rfc3461_4_xtext(text: str, xtext: bytes) -> None:
    assert mail(None, envelope_id=text) == b"MAIL FROM:<> SIZE=5 ENVID=%b\r\n" % xtext
    assert original(f"rfc822;{text}") == b"ORCPT=rfc822;" + xtext


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("utf-8;ä+\\=x", b"ORCPT=utf-8;\\x{E4}\\x{2B}\\x{5C}\\x{3D}x"),
        ("UTF-8;\U0001f600", b"ORCPT=UTF-8;\\x{1F600}"),
        ("rfc822;ä", b""),
        ("a b;x", b""),
        ("a\r\nRSET;x", b""),
        ("rfc822;" + 500 * "a", b""),
    ],
)
def test_rfc6533_3_original_recipient(text: str, parameter: bytes) -> None:
    assert original(text) == parameter


def test_rfc3461_5_2_1_nothing_is_said_where_nothing_was() -> None:
    assert (
        request.rcpt(Recipient(Mailbox("b", "example.org")), DSN) == b"RCPT TO:<b@example.org>\r\n"
    )


def test_rfc4616_plain() -> None:
    assert request.auth_plain("tim", "tanstaaftanstaaf") == (
        b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n"
    )
