"""Messages made fit for hosts that take less."""

from __future__ import annotations

from pfsmtp.smtp.outcome import Kind
from tests.delivery.hosts import Host
from tests.delivery.relaying import (
    relaying,
    said,
)


def test_rfc1870_host_for_smaller_messages_is_not_tried() -> None:
    with Host(extensions=("SIZE 20",)) as host:
        outcome = relaying(host).deliver_one()
    assert said(outcome) == (
        Kind.FAILED,
        "5.3.4",
        "mx1.example.org takes messages of 20 octets, not of 25",
    )
    assert "MAIL" not in host.verbs


LATIN = "Subject: hällo\r\n\r\nHällo\r\n".encode()


def test_8_bit_content_is_encoded_for_a_host_without_8bitmime() -> None:
    message = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nH\xc3\xa4\r\n"
    with Host(extensions=()) as host:
        test = relaying(host)
        (outcome,) = test.try_(message=message, eight_bit=True).outcomes
    assert outcome.kind is Kind.DELIVERED
    assert host.stored[0].octets.isascii()
    assert b"SMOkDQo=" in host.stored[0].octets
    assert host.commands[0][1] == b"MAIL FROM:<alice@example.net>"


def test_8_bit_content_is_sent_as_it_is_with_8bitmime() -> None:
    with Host(extensions=("8BITMIME",)) as host:
        (outcome,) = relaying(host).try_(message=LATIN, eight_bit=True).outcomes
    assert outcome.kind is Kind.DELIVERED
    assert host.stored[0].octets == LATIN
    assert host.commands[0][1] == b"MAIL FROM:<alice@example.net> BODY=8BITMIME"


def test_signed_8_bit_content_bounces_without_8bitmime() -> None:
    message = b"DKIM-Signature: v=1\r\n\r\nH\xc3\xa4\r\n"
    with Host(extensions=()) as host:
        test = relaying(host)
        (outcome,) = test.try_(message=message, eight_bit=True).outcomes
        assert said(outcome)[:2] == (Kind.FAILED, "5.6.3")
        assert test.deliver_one().kind is Kind.DELIVERED
    assert host.connections == 1


def test_long_lines_are_encoded_whatever_the_host_takes() -> None:
    message = b"Subject: x\r\n\r\n" + 2000 * b"a" + b"\r\n"
    with Host() as host:
        (outcome,) = relaying(host).try_(message=message, long_lines=True).outcomes
    assert outcome.kind is Kind.DELIVERED
    assert max(map(len, host.stored[0].octets.split(b"\r\n"))) <= 998


def test_rfc6531_international_mail_bounces_without_smtputf8() -> None:
    with Host(extensions=("8BITMIME",)) as host:
        test = relaying(host)
        outcomes = test.deliver("jürgen", smtputf8=True)
        assert said(outcomes[0])[:2] == (Kind.FAILED, "5.6.7")
        (outcome,) = test.try_(message=LATIN, eight_bit=True, smtputf8=True).outcomes
        assert said(outcome)[:2] == (Kind.FAILED, "5.6.7")
    assert host.stored == []


def test_mail_that_was_only_said_to_be_international_is_delivered_without_smtputf8() -> None:
    with Host(extensions=("8BITMIME",)) as host:
        test = relaying(host)
        assert test.deliver_one(smtputf8=True).kind is Kind.DELIVERED
        message = b"Subject: x\r\n\r\nH\xc3\xa4\r\n"
        (outcome,) = test.try_(message=message, eight_bit=True, smtputf8=True).outcomes
        assert outcome.kind is Kind.DELIVERED


def test_international_mail_is_delivered_with_smtputf8() -> None:
    with Host() as host:
        (outcome,) = relaying(host).deliver("jürgen", smtputf8=True)
    assert outcome.kind is Kind.DELIVERED
    assert host.commands[0][1].endswith(b" SMTPUTF8")
    assert host.stored[0].recipients == ["RCPT TO:<jürgen@example.org>".encode()]


def test_address_that_cannot_be_said_fails() -> None:
    with Host() as host:
        (outcome,) = relaying(host).deliver("a\r\nDATA")
    assert said(outcome)[:2] == (Kind.FAILED, "5.1.3")
    assert host.verbs == ["EHLO"]
