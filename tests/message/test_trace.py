"""Trace fields: what they say, and that nothing a client says breaks out of them."""

from __future__ import annotations

import email.utils
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.message import trace
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Encryption, Origin

WHEN = 1795492487.75  # seconds, and three quarters
STAMP = "Tue, 24 Nov 2026 03:54:47 +0000"
ALICE = Mailbox("alice", "example.org")

CLEAR = Origin(
    client="192.0.2.1", hello="client.example", protocol="ESMTP", hostname="mx.example.org"
)
ENCRYPTED = Origin(
    client="2001:db8::1",
    hello="[IPv6:2001:db8::1]",
    protocol="ESMTPS",
    hostname="mx.example.org",
    encryption=Encryption("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
)


def greeted(hello: str) -> Origin:
    return Origin(client="192.0.2.1", hello=hello, protocol="SMTP", hostname="mx.example.org")


def lines(field: bytes) -> list[str]:
    return field.decode().split("\r\n")


def test_rfc5321_4_4_received_says_from_by_with_id_for_and_when() -> None:
    field = trace.received(CLEAR, "4XyZ1", recipient=ALICE, when=WHEN)
    assert lines(field) == [
        "Received: from client.example ([192.0.2.1])",
        "\tby mx.example.org with ESMTP id 4XyZ1",
        "\tfor <alice@example.org>;",
        f"\t{STAMP}",
        "",
    ]


def test_rfc3848_received_over_tls_says_esmtps_version_and_cipher() -> None:
    field = trace.received(ENCRYPTED, "4XyZ1", recipient=None, when=WHEN)
    assert lines(field) == [
        "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])",
        "\tby mx.example.org with ESMTPS id 4XyZ1",
        "\t(TLSv1.3:TLS_AES_256_GCM_SHA384);",
        f"\t{STAMP}",
        "",
    ]


def test_rfc5321_7_2_received_names_no_recipient_unless_given_one() -> None:
    assert b"for " not in trace.received(CLEAR, "1", recipient=None, when=WHEN)


def test_message_that_came_from_no_connection_has_no_from() -> None:
    local = Origin(client="", hello="", protocol="ESMTP", hostname="mx.example.org")
    field = trace.received(local, "1", recipient=None, when=WHEN)
    assert field.startswith(b"Received: by mx.example.org with ESMTP id 1;")


def test_lines_end_as_asked() -> None:
    for field in (
        trace.received(ENCRYPTED, "1", recipient=ALICE, when=WHEN, line_end=b"\n"),
        trace.return_path(ALICE, b"\n"),
        trace.delivered_to(ALICE, b"\n"),
    ):
        assert field.endswith(b"\n")
        assert b"\r" not in field


def test_zone_of_a_link_local_client_stays_here() -> None:
    origin = Origin(client="fe80::1%eth0", hello="a", protocol="SMTP", hostname="b")
    assert b"([IPv6:fe80::1])" in trace.received(origin, "1", recipient=None, when=WHEN)


@pytest.mark.parametrize(
    ("hello", "shown"),
    [
        ("", "unknown"),
        ("a\r\nX-Evil: 1", "a??X-Evil:?1"),
        ("x) by y (", "x??by?y??"),
        ("[1.2.3.4", "?1.2.3.4"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}a", "?a"),
        ("a" * 300, "a" * 255),
        ("[192.0.2.7]", "[192.0.2.7]"),
        ("under_score.example", "under_score.example"),
    ],
)
def test_hello_cannot_break_out_of_the_field(hello: str, shown: str) -> None:
    field = trace.received(greeted(hello), "1", recipient=None, when=WHEN)
    assert lines(field)[0] == f"Received: from {shown} ([192.0.2.1])"


@given(hello=st.text(), local=st.text(), domain=st.text())
def test_whatever_is_said_fields_stay_one_field_each(hello: str, local: str, domain: str) -> None:
    someone = Mailbox(local, domain)
    header = (
        trace.return_path(someone)
        + trace.delivered_to(someone)
        + trace.received(greeted(hello), "1", recipient=someone, when=WHEN)
    )
    message = message_from_bytes(header + b"\r\nbody", policy=policy.compat32)
    assert message.keys() == ["Return-Path", "Delivered-To", "Received"]
    assert message.get_payload() == "body"
    assert not message.defects


def test_rfc5321_4_4_return_path_of_the_null_path_is_empty() -> None:
    assert trace.return_path(None) == b"Return-Path: <>\r\n"


def test_local_part_is_quoted_where_it_must_be() -> None:
    someone = Mailbox('a "b"', "example.org")
    assert trace.return_path(someone) == b'Return-Path: <"a \\"b\\""@example.org>\r\n'
    assert trace.delivered_to(someone) == b'Delivered-To: "a \\"b\\""@example.org\r\n'


def test_rfc6531_mailboxes_beyond_ascii_are_utf8() -> None:
    assert trace.delivered_to(Mailbox("jürgen", "bücher.example")) == (
        "Delivered-To: jürgen@bücher.example\r\n".encode()
    )


def test_postmaster_without_domain_has_none() -> None:
    assert trace.delivered_to(Mailbox("postmaster", "")) == b"Delivered-To: postmaster\r\n"


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_rfc5322_3_3_date_is_read_back_as_the_same_second(second: int) -> None:
    assert email.utils.parsedate_to_datetime(trace.date(second)).timestamp() == second


def test_dates_are_made_anew_when_the_second_changes_and_when_clocks_go_back() -> None:
    dates = trace.Dates()
    for when in (WHEN, WHEN + 0.1, WHEN + 1, WHEN - 5):
        assert dates(when) == trace.date(when)
    assert dates(WHEN) is dates(WHEN + 0.2)
