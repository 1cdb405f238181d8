"""Name servers that fail in every way: none of them makes a name exist or not exist."""

from __future__ import annotations

import time
from collections.abc import Callable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from pfsmtp.resolver.exchange import Exchange, Question, Unanswered
from pfsmtp.resolver.servers import NameServer, fixed
from tests.nameserver import Script, ScriptedServer, Transport, free_port, reply_to
from tests.resolver.conftest import QUICK, soon

QUESTION = Question(dns.name.from_text("example.org"), dns.rdatatype.A)


def ask(*addresses: str, seconds: float = 10.0) -> dns.message.QueryMessage:
    servers = fixed([NameServer.parse(address) for address in addresses])
    exchange = Exchange(servers, time.monotonic, tries=QUICK)
    return exchange.ask(QUESTION, time.monotonic() + seconds)


def good(query: dns.message.Message, transport: Transport) -> dns.message.Message:
    return reply_to(query, "example.org. 300 A 192.0.2.1")


def silent(query: dns.message.Message, transport: Transport) -> None:
    return None


def with_rcode(rcode: dns.rcode.Rcode) -> Script:
    def answer(query: dns.message.Message, transport: Transport) -> dns.message.Message:
        reply = reply_to(query)
        reply.set_rcode(rcode)
        return reply

    return answer


def referral(query: dns.message.Message, transport: Transport) -> dns.message.Message:
    reply = reply_to(query, aa=False)
    reply.flags |= dns.flags.RA
    reply.authority.append(dns.rrset.from_text("org.", 300, "IN", "NS", "a.nic.example."))
    return reply


def not_responsible(query: dns.message.Message, transport: Transport) -> dns.message.Message:
    reply = reply_to(query, aa=False)
    reply.set_rcode(dns.rcode.NXDOMAIN)
    return reply


def garbage(query: dns.message.Message, transport: Transport) -> bytes:
    return query.to_wire()[:2] + b"\x80" + b"\xff" * 40


def other_question(query: dns.message.Message, transport: Transport) -> dns.message.Message:
    other = dns.message.make_query("example.com", "A", id=query.id)
    return reply_to(other, "example.com. 300 A 192.0.2.1")


def other_id(query: dns.message.Message, transport: Transport) -> dns.message.Message:
    reply = good(query, transport)
    reply.id ^= 1
    return reply


def truncated(query: dns.message.Message, transport: Transport) -> dns.message.Message | None:
    """Truncated over UDP; silent over TCP."""
    if transport == "tcp":
        return None
    reply = reply_to(query, "example.org. 300 A 192.0.2.99")
    reply.flags |= dns.flags.TC
    return reply


def truncated_then_garbage(
    query: dns.message.Message, transport: Transport
) -> dns.message.Message | bytes | None:
    return garbage(query, transport) if transport == "tcp" else truncated(query, transport)


BROKEN: dict[str, Script] = {
    "SERVFAIL": with_rcode(dns.rcode.SERVFAIL),
    "REFUSED": with_rcode(dns.rcode.REFUSED),
    "NOTIMP": with_rcode(dns.rcode.NOTIMP),
    "silence": silent,
    "referral": referral,
    "NXDOMAIN from whoever": not_responsible,
    "garbage": garbage,
    "another question": other_question,
    "another id": other_id,
    "truncated, no TCP": truncated,
    "truncated, garbage over TCP": truncated_then_garbage,
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN.keys())
def test_broken_server_gives_no_answer(script: Script) -> None:
    with ScriptedServer(script) as server, pytest.raises(Unanswered):
        ask(server.address)


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN.keys())
def test_next_server_answers_in_place_of_a_broken_one(script: Script) -> None:
    with ScriptedServer(script) as broken, ScriptedServer(good) as server:
        assert ask(broken.address, server.address).answer


@pytest.mark.parametrize("guess", [other_id, other_question])
def test_rfc5452_4_guess_at_an_answer_does_not_stop_the_right_one(
    guess: Callable[[dns.message.Message, Transport], dns.message.Message],
) -> None:
    def script(query: dns.message.Message, transport: Transport) -> list[dns.message.Message]:
        return [guess(query, transport), good(query, transport)]

    with ScriptedServer(script) as server:
        assert ask(server.address).answer[0].name == QUESTION.name
    assert len(server.asked) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_server_is_asked_over_both_families(host: str) -> None:
    with ScriptedServer(good, host) as server:
        assert ask(server.address).answer


def test_no_domain_is_an_answer() -> None:
    with ScriptedServer(with_rcode(dns.rcode.NXDOMAIN)) as server:
        assert ask(server.address).rcode() == dns.rcode.NXDOMAIN


def test_port_nobody_listens_on_is_known_at_once() -> None:
    port = free_port("127.0.0.1")
    before = time.monotonic()
    with pytest.raises(Unanswered, match="unreachable"):
        ask(f"127.0.0.1:{port}")
    assert time.monotonic() - before < min(QUICK)


def test_rfc7766_5_truncated_answer_is_fetched_over_tcp() -> None:
    def script(query: dns.message.Message, transport: Transport) -> dns.message.Message | None:
        return good(query, transport) if transport == "tcp" else truncated(query, transport)

    with ScriptedServer(script) as server:
        assert ask(server.address).answer[0].to_text().endswith("192.0.2.1")
    assert [transport for *_, transport in server.asked] == ["udp", "tcp"]


def test_query_offers_edns() -> None:
    seen: list[tuple[int, int]] = []

    def script(query: dns.message.Message, transport: Transport) -> dns.message.Message:
        seen.append((query.edns, query.payload))
        return good(query, transport)

    with ScriptedServer(script) as server:
        ask(server.address)
    assert seen == [(0, 1232)]


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_rfc6891_7_server_without_edns_is_asked_without(rcode: dns.rcode.Rcode) -> None:
    def script(query: dns.message.Message, transport: Transport) -> dns.message.Message | bytes:
        if query.edns < 0:
            return good(query, transport)
        header_only = dns.message.Message(query.id)
        header_only.flags = dns.flags.Flag(dns.flags.QR)
        header_only.set_rcode(rcode)
        return header_only.to_wire()

    with ScriptedServer(script) as server:
        assert ask(server.address).answer
    assert len(server.asked) == 2


def test_silent_server_is_asked_again() -> None:
    answers: list[Callable[[dns.message.Message, Transport], dns.message.Message | None]]
    answers = [silent, good]
    with ScriptedServer(lambda query, transport: answers.pop(0)(query, transport)) as server:
        assert ask(server.address).answer


def test_server_that_has_refused_is_not_asked_again() -> None:
    with (
        ScriptedServer(with_rcode(dns.rcode.REFUSED)) as refusing,
        ScriptedServer(silent) as mute,
        pytest.raises(Unanswered, match="REFUSED"),
    ):
        ask(refusing.address, mute.address)
    assert len(refusing.asked) == 1
    assert len(mute.asked) == len(QUICK)


def test_server_that_has_answered_is_asked_first_next_time() -> None:
    with ScriptedServer(silent) as mute, ScriptedServer(good) as server:
        servers = fixed([NameServer.parse(mute.address), NameServer.parse(server.address)])
        exchange = Exchange(servers, time.monotonic, tries=QUICK)
        exchange.ask(QUESTION, soon())
        exchange.ask(QUESTION, soon())
    assert len(mute.asked) == 1


def test_deadline_ends_it() -> None:
    before = time.monotonic()
    with ScriptedServer(silent) as server, pytest.raises(Unanswered, match="timeout"):
        ask(server.address, seconds=0.1)
    assert time.monotonic() - before < sum(QUICK)
