"""Delivery status notifications, read back with Python's email package."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import replace
from email.message import EmailMessage, Message
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pfsmtp.message.dsn import (
    WHOLE_LIMIT,
    WHOLE_LIMIT_ASKED,
    compose,
    is_wanted,
    quotes_whole,
)
from pfsmtp.message.report import Action, RecipientReport, Report
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Notify, Recipient, Return
from pfsmtp.smtp.status import Status

ARRIVED = 1_764_042_600.0  # Tue, 25 Nov 2025 03:50:00 UTC
NOW = ARRIVED + 200
ALICE = Mailbox("alice", "example.com")
BOB = Recipient(Mailbox("bob", "example.org"))
ORIGINAL = (
    b"From: alice@example.com\r\nSubject: Lunch?\r\nMessage-ID: <1@example.com>\r\n\r\n"
    b"Noon?\r\n--\r\n.\r\nno line end"
)
HEADER = ORIGINAL.partition(b"\r\n\r\n")[0] + b"\r\n"


def failure(recipient: Recipient = BOB) -> RecipientReport:
    return RecipientReport(
        recipient,
        "failed",
        Status(5, 1, 1),
        reason="mx.example.org refused the recipient.",
        remote="mx.example.org",
        reply="550 5.1.1 No such user here",
        attempted=ARRIVED + 60,
    )


def delay(recipient: Recipient = BOB) -> RecipientReport:
    return RecipientReport(
        recipient,
        "delayed",
        Status(4, 4, 1),
        reason="No mail exchanger of example.org could be reached.",
        attempted=ARRIVED + 60,
        retry_until=ARRIVED + 432_000,
    )


def relayed(recipient: Recipient = BOB) -> RecipientReport:
    return RecipientReport(
        recipient,
        "relayed",
        Status(2, 0, 0),
        reason="mx.example.org took the message.",
        remote="mx.example.org",
        reply="250 2.0.0 Ok: queued as 4ABC",
    )


def report(*recipients: RecipientReport, to: Mailbox = ALICE) -> Report:
    told = recipients or (failure(),)
    envelope = Envelope(ALICE, tuple(recipient.recipient for recipient in told))
    return Report(to, "out.example.com", envelope, ARRIVED, told)


def composed(
    about: Report, original: bytes = ORIGINAL, *, whole: bool = True
) -> tuple[Envelope, bytes]:
    random = iter(range(1000))
    return compose(
        about,
        original,
        whole=whole,
        when=NOW,
        random=lambda count: bytes(next(random) % 256 for _ in range(count)),
    )


def read(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    assert not message.defects
    return message


def parts(octets: bytes) -> tuple[EmailMessage, EmailMessage, EmailMessage]:
    message = read(octets)
    assert message.get_content_type() == "multipart/report"
    first, second, third = cast(list[EmailMessage], message.get_payload())
    assert not [part.defects for part in (first, second, third) if part.defects]
    return first, second, third


def text(octets: bytes) -> str:
    """The part for people, with lines joined."""
    return " ".join(str(parts(octets)[0].get_content()).split())


def fields(octets: bytes) -> list[Message]:
    """The groups of fields for programs, the message's own first."""
    return cast(list[Message], parts(octets)[1].get_payload())


def third_part(octets: bytes) -> bytes:
    """The octets of the third part behind its header."""
    boundary = read(octets).get_boundary()
    assert boundary is not None
    section = octets.split(f"\r\n--{boundary}".encode())[3]
    return section.partition(b"\r\n\r\n")[2]


def test_rfc3464_2_the_envelope_is_from_the_null_path_to_the_sender() -> None:
    envelope, _ = composed(report())
    assert envelope == Envelope(None, (Recipient(ALICE),))


def test_the_header_is_that_of_an_automatic_reply() -> None:
    message = read(composed(report())[1])
    assert message["From"] == "Mail Delivery System <postmaster@out.example.com>"
    assert message["To"] == "alice@example.com"
    assert message["Subject"] == "Not delivered: your message to bob@example.org"
    assert message["Date"] == "Tue, 25 Nov 2025 03:53:20 +0000"
    assert re.fullmatch(r"<[0-9a-f.]+@out\.example\.com>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == message["References"] == "<1@example.com>"
    assert message["Content-Type"].params["report-type"] == "delivery-status"


def test_a_person_is_told_what_failed_where_what_was_said_and_what_to_do() -> None:
    told = text(composed(report())[1])
    assert "could not be delivered to bob@example.org. It will not be tried again." in told
    assert "mx.example.org refused the recipient." in told
    assert "mx.example.org said: 550 5.1.1 No such user here" in told
    assert "What to do: Check the part of the address before the @" in told
    assert "Subject: Lunch? Message-ID: <1@example.com> taken on: Tue, 25 Nov 2025" in told


def test_a_delay_says_until_when_it_is_tried() -> None:
    octets = composed(report(delay()))[1]
    assert read(octets)["Subject"] == "Delayed: your message to bob@example.org"
    assert "You need do nothing" in text(octets)
    assert "It will be tried until Sun, 30 Nov 2025 03:50:00 +0000." in text(octets)


def test_a_success_says_that_it_was_passed_on() -> None:
    octets = composed(report(relayed()))[1]
    assert read(octets)["Subject"] == "Passed on: your message to bob@example.org"
    assert "mx.example.org took the message." in text(octets)
    assert "What to do" not in text(octets)


def test_the_worst_is_told_first_and_is_the_subject() -> None:
    carol = Recipient(Mailbox("carol", "example.org"))
    octets = composed(report(relayed(), failure(carol), delay(BOB)))[1]
    assert read(octets)["Subject"] == "Not delivered: your message to carol@example.org"
    told = text(octets)
    assert told.index("could not") < told.index("has not been") < told.index("passed on")


def test_several_recipients_are_counted_and_told_one_by_one() -> None:
    others = tuple(failure(Recipient(Mailbox(f"u{n}", "example.org"))) for n in range(3))
    octets = composed(report(*others))[1]
    assert read(octets)["Subject"] == "Not delivered: your message to 3 recipients"
    assert all(f"<u{n}@example.org>" in text(octets) for n in range(3))
    assert [group["Final-Recipient"] for group in fields(octets)[1:]] == [
        f"rfc822;u{n}@example.org" for n in range(3)
    ]


@pytest.mark.parametrize("sender", [None, Mailbox("mallory", "example.net")])
def test_a_postmaster_is_told_why(sender: Mailbox | None) -> None:
    about = report(to=Mailbox("postmaster", "example.com"))
    about = replace(about, envelope=structs.replace(about.envelope, reverse_path=sender))
    assert "You get this as postmaster" in text(composed(about)[1])
    assert "You get this as postmaster" not in text(composed(report())[1])


def test_rfc3464_2_2_and_2_3_fields_of_a_failure() -> None:
    original = structs.replace(BOB, original="rfc822;Bob@Example.ORG")
    about = report(failure(original))
    about = replace(about, envelope=structs.replace(about.envelope, envelope_id="QQ314159"))
    message, recipient = fields(composed(about)[1])
    assert message.items() == [
        ("Original-Envelope-Id", "QQ314159"),
        ("Reporting-MTA", "dns; out.example.com"),
        ("Arrival-Date", "Tue, 25 Nov 2025 03:50:00 +0000"),
    ]
    assert recipient.items() == [
        ("Original-Recipient", "rfc822;Bob@Example.ORG"),
        ("Final-Recipient", "rfc822;bob@example.org"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.example.org"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such user here"),
        ("Last-Attempt-Date", "Tue, 25 Nov 2025 03:51:00 +0000"),
    ]


def test_rfc3464_2_3_9_only_a_delay_has_will_retry_until() -> None:
    assert fields(composed(report(delay()))[1])[1]["Will-Retry-Until"] == (
        "Sun, 30 Nov 2025 03:50:00 +0000"
    )
    given_up = replace(delay(), action="failed")
    assert "Will-Retry-Until" not in fields(composed(report(given_up))[1])[1]


def test_rfc3464_2_3_6_what_no_server_said_has_a_diagnostic_type_of_our_own() -> None:
    recipient = fields(composed(report(delay()))[1])[1]
    assert recipient["Diagnostic-Code"].split() == [
        "x-pfsmtp;",
        *delay().reason.split(),
    ]
    assert "Remote-MTA" not in recipient


def test_the_whole_message_is_quoted_octet_for_octet() -> None:
    octets = composed(report())[1]
    assert parts(octets)[2].get_content_type() == "message/rfc822"
    assert third_part(octets) == ORIGINAL
    assert "The message is attached." in text(octets)


def test_only_the_header_is_quoted_when_not_whole() -> None:
    octets = composed(report(), whole=False)[1]
    assert parts(octets)[2].get_content_type() == "text/rfc822-headers"
    assert third_part(octets) == HEADER
    assert "Its header is attached." in text(octets)


def test_a_message_without_header_is_reported_on() -> None:
    for whole in (True, False):
        octets = composed(report(), b"hello\r\n", whole=whole)[1]
        assert third_part(octets) == (b"hello\r\n" if whole else b"")
        assert "In-Reply-To" not in read(octets)


@pytest.mark.parametrize(
    ("returning", "size", "whole"),
    [
        (None, WHOLE_LIMIT, True),
        (None, WHOLE_LIMIT + 1, False),
        ("FULL", WHOLE_LIMIT_ASKED, True),
        ("FULL", WHOLE_LIMIT_ASKED + 1, False),
        ("HDRS", 100, False),
    ],
)
def test_rfc3461_4_3_ret_and_size_say_what_is_quoted(
    returning: Return | None, size: int, whole: bool
) -> None:
    about = report()
    about = replace(about, envelope=structs.replace(about.envelope, returning=returning))
    assert quotes_whole(about, size) is whole


@pytest.mark.parametrize("told", [delay(), relayed()])
def test_rfc3461_4_3_without_a_failure_only_the_header_is_quoted(told: RecipientReport) -> None:
    about = report(told)
    about = replace(about, envelope=structs.replace(about.envelope, returning="FULL"))
    assert not quotes_whole(about, 100)


@pytest.mark.parametrize(
    ("notify", "wanted"),
    [
        ((), {"failed", "delayed"}),
        (("NEVER",), set()),
        (("SUCCESS",), {"relayed", "delivered", "expanded"}),
        (("FAILURE",), {"failed"}),
        (("DELAY", "FAILURE"), {"failed", "delayed"}),
    ],
)
def test_rfc3461_4_1_notify_says_what_is_reported(
    notify: tuple[Notify, ...], wanted: set[Action]
) -> None:
    recipient = structs.replace(BOB, notify=frozenset(notify))
    actions: tuple[Action, ...] = ("failed", "delayed", "delivered", "relayed", "expanded")
    assert {action for action in actions if is_wanted(recipient, action)} == wanted


def test_rfc6533_addresses_and_headers_beyond_ascii_have_types_of_their_own() -> None:
    recipient = Recipient(Mailbox("j\u00f6rg", "b\u00fccher.example"))
    original = "Subject: Gr\u00fc\u00dfe\r\n\r\ntext\r\n".encode()
    envelope, octets = composed(report(failure(recipient)), original)
    assert [part.get_content_type() for part in parts(octets)] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global",
    ]
    assert "Final-Recipient: utf-8;j\u00f6rg@b\u00fccher.example\r\n".encode() in octets
    assert third_part(octets) == original
    headers = composed(report(failure(recipient)), original, whole=False)[1]
    assert parts(headers)[2].get_content_type() == "message/global-headers"
    # To an ASCII address it is 8-bit, and needs no SMTPUTF8.
    assert (envelope.body, envelope.smtputf8) == ("8BITMIME", False)
    assert octets.partition(b"\r\n\r\n")[0].isascii()


def test_a_sender_beyond_ascii_needs_smtputf8() -> None:
    sender = Mailbox("j\u00f6rg", "b\u00fccher.example")
    envelope, octets = composed(report(to=sender))
    assert envelope.smtputf8
    assert "To: <j\u00f6rg@b\u00fccher.example>\r\n".encode() in octets


def test_eight_bit_text_is_labelled_on_every_level() -> None:
    original = b"Subject: x\r\n\r\ncaf\xe9\r\n"
    envelope, octets = composed(report(), original)
    assert envelope.body == "8BITMIME"
    assert read(octets)["Content-Transfer-Encoding"] == "8bit"
    assert parts(octets)[2]["Content-Transfer-Encoding"] == "8bit"
    assert parts(octets)[2].get_content_type() == "message/rfc822"


def test_an_ascii_report_is_seven_bit() -> None:
    envelope, octets = composed(report())
    assert envelope.body == "7BIT"
    assert b"Content-Transfer-Encoding" not in octets


def test_encoded_words_of_the_subject_are_read() -> None:
    for title, shown in (
        (b"=?utf-8?q?caf=C3=A9?= now", "caf\u00e9 now"),
        (b"=?utf-8?b?abcde?=", "=?utf-8?b?abcde?="),
        (b"=?no-such-set?q?x?=", "=?no-such-set?q?x?="),
        (b"=?utf-8?q?a=0d=0aBcc:_b=e2=80=ae?=", "a Bcc: b?"),
    ):
        told = text(composed(report(), b"Subject: " + title + b"\r\n\r\n")[1])
        assert f"Subject: {shown} taken on" in told


@pytest.mark.parametrize(
    "message_id", [b"<a b@c>", b"<a@b> <c@d>", b"x", b"<" + b"a" * 300 + b"@b>", b"<\xc3\xa4@b>"]
)
def test_a_message_id_that_is_none_is_not_answered(message_id: bytes) -> None:
    octets = composed(report(), b"Message-ID: " + message_id + b"\r\n\r\n")[1]
    assert "In-Reply-To" not in read(octets)
    assert "References" not in read(octets)


def test_an_endless_reply_is_cut() -> None:
    reply = "\n".join(f"550-line {n}" for n in range(1000))
    octets = composed(report(replace(failure(), reply=reply)))[1]
    assert "550-line 11 ..." in text(octets)
    assert len(octets) < 5000


def test_hostile_replies_end_no_field_and_no_part() -> None:
    reply = (
        "550 x\r\nAction: delivered\r\n\r\n--=_000102030405060708090a0b0c0d0e--\r\n\x1b[2J\u202e"
    )
    hostile = Recipient(BOB.mailbox, original="rfc822;x\r\nStatus: 2.0.0\r\n\r\nb")
    about = report(replace(failure(hostile), reply=reply, remote="evil\r\nStatus: 2.0.0"))
    octets = composed(about)[1]
    assert fields(octets)[1].get_all("Action") == ["failed"]
    assert fields(octets)[1].get_all("Status") == ["5.1.1"]
    assert b"\x1b" not in octets
    assert "\u202e".encode() not in octets


anything = st.text(max_size=1500) | st.text("ab \r\n\t-=_:;\u2028\x85\udc80\u00e9", max_size=60)


@given(
    reason=anything,
    reply=st.none() | anything,
    remote=st.none() | anything,
    envelope_id=st.none() | anything,
    orcpt=st.none() | anything,
    title=anything,
)
def test_whatever_was_said_the_report_is_whole(
    reason: str,
    reply: str | None,
    remote: str | None,
    envelope_id: str | None,
    orcpt: str | None,
    title: str,
) -> None:
    recipient = structs.replace(BOB, original=orcpt and f"rfc822;{orcpt}")
    told = replace(failure(recipient), reason=reason, reply=reply, remote=remote)
    about = report(told)
    about = replace(about, envelope=structs.replace(about.envelope, envelope_id=envelope_id))
    line = re.sub(r"[\r\n\0]", " ", title).encode("utf-8", "replace")[:900]
    octets = composed(about, b"Subject: " + line + b"\r\n\r\nx\r\n")[1]
    assert re.search(rb"\r(?!\n)|(?<!\r)\n|\0", octets) is None
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    # The email package reads no groups of fields in a message/global-delivery-status.
    assert len(parts(octets)) == 3
    plain = octets.replace(b"message/global-delivery-status", b"message/delivery-status")
    _, told_fields = fields(plain)
    assert told_fields.get_all("Status") == ["5.1.1"]
    assert told_fields["Final-Recipient"] == "rfc822;bob@example.org"
