"""TLS where it can be had, in clear where it is broken; required and verified for a smart host."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.config import CertificatePair
from pfsmtp.delivery.relay.connection import Budgets
from pfsmtp.smtp.client import Credentials, TLSPolicy
from pfsmtp.smtp.outcome import Kind
from pfsmtp.tls import Trust, client_context
from tests.certificates import Issuer, make_issuer, make_pair
from tests.delivery.hosts import Behaviour, Host, Talk
from tests.delivery.relaying import MESSAGE, SHORT, Relaying, relaying, said, timeouts

NAME = "mx1.example.org"


def server(pair: CertificatePair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return make_issuer("Test Authority")


@pytest.fixture
def tls(tmp_path: Path, issuer: Issuer) -> ssl.SSLContext:
    """Of a host whose certificate is good."""
    return server(make_pair(tmp_path, "good", [NAME], chain=[issuer]))


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
def test_message_is_encrypted_whenever_that_is_offered(
    tls: ssl.SSLContext, issuer: Issuer, extensions: tuple[str, ...]
) -> None:
    with Host(tls=tls, extensions=extensions) as host:
        test = Relaying(port=host.port, judge=Trust(issuer.pem))
        outcome = test.deliver_one()
        assert test.deliver_one().kind is Kind.DELIVERED
    assert outcome.kind is Kind.DELIVERED
    assert outcome.tls == "TLSv1.3 TLS_AES_256_GCM_SHA384, certificate valid"
    assert [stored.encrypted for stored in host.stored] == [True, True]
    assert host.connections == 1
    assert host.verbs[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]
    assert test.events.named("host-connected") == [
        {"host": NAME, "address": "127.0.0.1", "tls": outcome.tls}
    ]


@pytest.mark.parametrize(
    ("name", "days", "trusted", "verdict"),
    [
        (NAME, (-30, -2), True, "expired"),
        ("mx.example.com", (-1, 30), True, "name"),
        (NAME, (-1, 30), False, ""),
    ],
)
def test_certificate_that_is_not_good_is_used_and_noted(
    tmp_path: Path,
    issuer: Issuer,
    name: str,
    days: tuple[int, int],
    trusted: bool,
    verdict: str,
) -> None:
    pair = make_pair(tmp_path, "a", [name], days=days, chain=[issuer] if trusted else [])
    with Host(tls=server(pair)) as host:
        outcome = Relaying(port=host.port, judge=Trust(issuer.pem)).deliver_one()
    assert outcome.kind is Kind.DELIVERED
    assert host.stored[0].encrypted
    assert outcome.tls is not None
    assert not outcome.tls.endswith("certificate valid")
    assert verdict in outcome.tls.partition("certificate ")[2]


def behind_220(octets: bytes, end: Callable[[Talk], None]) -> Callable[[Talk], None]:
    """Say 220, something that is no handshake, and end like this."""

    def act(talk: Talk) -> None:
        talk.say(b"220 go\r\n")
        talk.wait(0.02)
        talk.drip(octets, 0.001)
        end(talk)

    return act


BROKEN: list[Behaviour] = [
    b"220 go\r\n250 inserted in clear\r\n",
    behind_220(b"not TLS at all\r\n", Talk.hang),
    behind_220(b"", Talk.hang),
    behind_220(b"", Talk.close),
    behind_220(b"", Talk.reset),
    behind_220(b"\x16\x03\x03\x40\x00half a ServerHello", Talk.hang),
]


@pytest.mark.parametrize("behaviour", BROKEN)
def test_broken_tls_is_followed_by_clear_on_a_new_connection(
    tls: ssl.SSLContext, behaviour: Behaviour
) -> None:
    with Host({"STARTTLS": behaviour}, tls=tls) as host:
        budgets = Budgets(timeouts(), handshake=SHORT)
        test = Relaying(port=host.port, budgets=budgets)
        outcome = test.deliver_one()
    assert outcome.kind is Kind.DELIVERED
    assert outcome.tls is None
    assert host.connections == 2
    assert [stored.encrypted for stored in host.stored] == [False]
    assert len(test.events.named("tls-failed")) == 1
    assert test.events.named("host-failed") == []


def test_host_that_refuses_right_after_the_handshake_is_given_clear(
    tmp_path: Path, issuer: Issuer, tls: ssl.SSLContext
) -> None:
    # In TLS 1.3 the client hears of a missing certificate of its own when it reads.
    tls.verify_mode = ssl.CERT_REQUIRED
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(issuer.pem)
    tls.load_verify_locations(authorities)
    with Host(tls=tls) as host:
        assert relaying(host).deliver_one().kind is Kind.DELIVERED
    assert [stored.encrypted for stored in host.stored] == [False]
    assert host.connections == 2


def test_454_to_starttls_goes_on_in_clear(tls: ssl.SSLContext) -> None:
    with Host({"STARTTLS": b"454 4.7.0 not now\r\n"}, tls=tls) as host:
        assert relaying(host).deliver_one().kind is Kind.DELIVERED
    assert host.connections == 1


def test_host_that_insists_on_the_tls_it_does_not_have_defers(tls: ssl.SSLContext) -> None:
    replies: dict[str, Behaviour] = {
        "STARTTLS": b"220 go\r\n250 inserted\r\n",
        "MAIL": b"530 5.7.0 STARTTLS first\r\n",
    }
    with Host(replies, tls=tls) as host:
        outcome = relaying(host).deliver_one()
    assert said(outcome) == (Kind.DEFERRED, "4.7.0", "530 5.7.0 STARTTLS first")


def test_host_that_is_gone_when_clear_is_tried_defers(tls: ssl.SSLContext) -> None:
    def banner(talk: Talk) -> None:
        talk.say(b"220 mx\r\n" if host.connections == 1 else b"421 4.7.0 not you again\r\n")

    with Host({"BANNER": banner, "STARTTLS": BROKEN[0]}, tls=tls) as host:
        outcome = relaying(host).deliver_one()
    assert said(outcome) == (Kind.DEFERRED, "4.7.0", "421 4.7.0 not you again")


def test_large_message_is_the_same_under_tls(tls: ssl.SSLContext) -> None:
    message = b"".join(b".line %d\r\n" % number for number in range(150_000))
    with Host(tls=tls) as host:
        (outcome,) = relaying(host).try_(message=message).outcomes
    assert outcome.kind is Kind.DELIVERED
    assert host.stored[0].octets == message


def test_replies_octet_by_octet_in_records_of_their_own(tls: ssl.SSLContext) -> None:
    def drip(talk: Talk) -> None:
        talk.drip(b"250 2.0.0 stored slowly\r\n", 0.001)

    with Host({".": drip}, tls=tls) as host:
        assert relaying(host).deliver_one().text == "250 2.0.0 stored slowly"


@pytest.mark.parametrize("behaviour", [Talk.close, Talk.reset])
def test_lost_after_the_final_dot_is_uncertain_under_tls(
    tls: ssl.SSLContext, behaviour: Behaviour
) -> None:
    with Host({".": behaviour}, tls=tls) as host:
        outcome = relaying(host).deliver_one()
    assert outcome.kind is Kind.DEFERRED
    assert outcome.uncertain


def test_kept_connection_that_was_closed_is_replaced_under_tls(tls: ssl.SSLContext) -> None:
    with Host(tls=tls) as host:
        test = relaying(host)
        assert test.deliver_one().kind is Kind.DELIVERED
    with Host(tls=tls, port=host.port) as again:
        assert test.deliver_one().kind is Kind.DELIVERED
    assert again.connections == 1
    assert test.events.named("host-failed") == []


# ------------------------------------------------------------------------ smart host


def to_smart_host(host: Host, issuer: Issuer, tmp_path: Path) -> Relaying:
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(issuer.pem)
    context = client_context(verify=True)
    context.load_verify_locations(authorities)
    return Relaying(
        port=host.port,
        tls=TLSPolicy.IMPLICIT if host.implicit else TLSPolicy.REQUIRED,
        context=context,
        credentials=Credentials("us", "secret"),
        smart_host=NAME,
    )


@pytest.mark.parametrize("implicit", [False, True])
def test_smart_host_is_told_who_we_are_under_tls(
    tls: ssl.SSLContext, issuer: Issuer, tmp_path: Path, implicit: bool
) -> None:
    replies: dict[str, Behaviour] = {"AUTH": b"235 2.7.0 welcome\r\n"}
    with Host(replies, ("PIPELINING", "AUTH PLAIN"), tls, implicit) as host:
        outcome = to_smart_host(host, issuer, tmp_path).deliver_one()
    assert outcome.kind is Kind.DELIVERED
    assert outcome.tls == "TLSv1.3 TLS_AES_256_GCM_SHA384, certificate valid"
    assert host.commands[0][-4] == b"AUTH PLAIN AHVzAHNlY3JldA=="
    assert host.stored[0].octets == MESSAGE


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("fault", ["expired", "self-signed", "name"])
def test_smart_host_with_a_bad_certificate_gets_nothing(
    tmp_path: Path, issuer: Issuer, implicit: bool, fault: str
) -> None:
    pair = make_pair(
        tmp_path,
        "bad",
        ["mx.example.com" if fault == "name" else NAME],
        days=(-30, -2) if fault == "expired" else (-1, 30),
        chain=[] if fault == "self-signed" else [issuer],
    )
    with Host({}, ("AUTH PLAIN",), server(pair), implicit) as host:
        outcome = to_smart_host(host, issuer, tmp_path).deliver_one()
    assert said(outcome)[:2] == (Kind.DEFERRED, "4.7.5")
    assert host.connections == 1
    assert "AUTH" not in host.verbs
    assert "MAIL" not in host.verbs


@pytest.mark.parametrize("replies", [{}, {"STARTTLS": b"454 4.7.0 not now\r\n"}], ids=str)
def test_smart_host_without_tls_gets_nothing(
    tmp_path: Path, issuer: Issuer, tls: ssl.SSLContext, replies: dict[str, Behaviour]
) -> None:
    with Host(replies, ("AUTH PLAIN",), tls if replies else None) as host:
        outcome = to_smart_host(host, issuer, tmp_path).deliver_one()
    assert outcome.kind is Kind.DEFERRED
    assert "AUTH" not in host.verbs
    assert "MAIL" not in host.verbs


def test_smart_host_that_refuses_the_password_keeps_the_mail(
    tmp_path: Path, issuer: Issuer, tls: ssl.SSLContext
) -> None:
    with Host({"AUTH": b"535 5.7.8 wrong\r\n"}, ("AUTH LOGIN PLAIN",), tls) as host:
        outcome = to_smart_host(host, issuer, tmp_path).deliver_one()
    assert said(outcome) == (Kind.DEFERRED, "4.7.8", "535 5.7.8 wrong")
    assert outcome.reason == f"{NAME} refused our credentials"
