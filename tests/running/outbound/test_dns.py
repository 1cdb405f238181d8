"""What the DNS says, row by row, and where mail goes then: with Knot DNS, and with one that errs.

Three hosts take mail: `a` and `b` on IPv4, `six` on IPv6. At `down` and `off` nobody listens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.delivery.hosts import Host
from tests.figures import Show
from tests.nameserver import Answers, ScriptedServer, Transport, reply_to
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import outcome, submit
from tests.running.program import Program

HOSTS = {"a": "127.1.9.1", "b": "127.1.9.2", "six": "::1", "down": "127.1.9.3", "off": "127.1.9.4"}
LISTENING = ("a", "b", "six")


@dataclass(frozen=True, slots=True)
class Row:
    """Records of `test`, and what becomes of mail to a domain: the host that took it, or why not.

    `status` is 2 when it was delivered, else the enhanced status.
    """

    name: str
    records: Sequence[str]
    domain: str
    end: str  # the address of the host, or a part of what is said
    status: str = "2.0.0"
    options: tuple[str, ...] = ()


def delivered(name: str, records: Sequence[str], domain: str, host: str) -> Row:
    return Row(name, records, f"{domain}.test", HOSTS[host])


def failed(name: str, records: Sequence[str], domain: str, said: str, status: str) -> Row:
    return Row(name, records, f"{domain}.test", said, status)


EQUAL = ["equal MX 10 a", "equal MX 10 b"]
MANY = ["many MX 1 a", *(f"many MX 2 mx{number}" for number in range(1000))]

KNOT = [
    delivered("one MX", ["one MX 10 a"], "one", "a"),
    delivered("preference", ["pref MX 20 b", "pref MX 10 a"], "pref", "a"),
    delivered("first MX is down", ["next MX 10 down", "next MX 20 b"], "next", "b"),
    delivered("first MX has no address", ["gone MX 10 none", "gone MX 20 b"], "gone", "b"),
    delivered("no MX, A", [f"only4 A {HOSTS['a']}"], "only4", "a"),
    delivered("no MX, AAAA", ["only6 AAAA ::1"], "only6", "six"),
    delivered("MX with both, IPv6 first", ["both MX 10 twin"], "both", "six"),
    delivered("CNAME to a domain with MX", ["alias CNAME one"], "alias", "a"),
    delivered("MX to a CNAME", ["indirect MX 10 cname", "cname CNAME a"], "indirect", "a"),
    delivered("wildcard", ["*.wild MX 10 b"], "any.wild", "b"),
    delivered("TTL 0", ["quick 0 MX 10 a"], "quick", "a"),
    delivered("1,000 MX, over TCP", MANY, "many", "a"),
    delivered("IDN by A-labels", ["xn--bcher-kva MX 10 a"], "xn--bcher-kva", "a"),
    Row("IDN by U-labels", [], "b\u00fccher.test", HOSTS["a"], options=("SMTPUTF8",)),
    Row("upper case", [], "ONE.TEST", HOSTS["a"]),
    Row("IPv4 literal", [], f"[{HOSTS['b']}]", HOSTS["b"]),
    Row("IPv6 literal", [], "[IPv6:::1]", HOSTS["six"]),
    failed("null MX", ["null MX 0 ."], "null", "accepts no mail (null MX)", "5.1.10"),
    failed("no such domain", [], "nowhere", "domain nowhere.test does not exist", "5.1.2"),
    failed("neither MX nor address", ['text TXT "x"'], "text", "neither a mail exch", "5.1.2"),
    failed("MX without address", ["bare MX 10 none"], "bare", "have no address", "5.4.4"),
    failed("all MX are down", ["late MX 10 off"], "late", "could not be reached", "4.4.1"),
    failed("CNAME loop", ["x CNAME y", "y CNAME x"], "x", "too many CNAMEs", "4.4.3"),
    Row("not this server's domain", [], "elsewhere.example", "REFUSED", "4.4.3"),
]

LOOPBACK = [
    failed("MX is ourselves", ["us MX 10 a"], "us", "loops back to us", "5.4.6"),
    failed("our IPv6 address", ["us6 MX 10 six"], "us6", "loops back to us", "5.4.6"),
    failed("implied MX is ourselves", [f"it A {HOSTS['a']}"], "it", "loops back", "5.4.6"),
    failed("0.0.0.0", ["zero MX 10 any", "any A 0.0.0.0"], "zero", "loops back", "5.4.6"),
    Row("literal of ourselves", [], "[127.0.0.1]", "loops back to us", "5.4.6"),
    Row("literal, mapped", [], "[IPv6:::ffff:127.0.0.1]", "loops back to us", "5.4.6"),
]

ERRING = [
    failed("SERVFAIL", [], "servfail", "SERVFAIL", "4.4.3"),
    failed("silence", [], "silent", "timeout", "4.4.3"),
    failed("garbage", [], "garbage", "timeout", "4.4.3"),
    failed("lame", [], "lame", "not responsible", "4.4.3"),
    failed("a referral", [], "referral", "not responsible", "4.4.3"),
    failed("NXDOMAIN of the irresponsible", [], "hearsay", "not responsible", "4.4.3"),
    failed("truncated, and no TCP", [], "cut", "connection closed", "4.4.3"),
    failed("SERVFAIL for the MX's address", [], "half", "SERVFAIL", "4.4.3"),
    delivered("SERVFAIL for AAAA, not for A", [], "limping", "a"),
    delivered("SERVFAIL for the first MX", [], "second", "b"),
    delivered("truncated, then TCP", [], "long", "a"),
]
"""Rows of a name server that errs, see `erring`."""


def erring(query: dns.message.Message, transport: Transport) -> Answers:
    """Answer as the first label of the name says; what nothing is said of gets SERVFAIL."""
    question = query.question[0]
    name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
    match name.partition(".")[0], kind, transport:
        case "silent", _, _:
            return None
        case "garbage", _, _:
            return b"\0\1garbage"
        case "lame", _, _:
            return reply_to(query, aa=False)
        case "referral", _, _:
            reply = reply_to(query, aa=False)
            reply.authority.append(dns.rrset.from_text("test.", 300, "IN", "NS", "ns.test."))
            return reply
        case "hearsay", _, _:
            return _with(reply_to(query, aa=False), dns.rcode.NXDOMAIN)
        case ("cut", _, "udp") | ("long", "MX", "udp"):
            reply = reply_to(query)
            reply.flags |= dns.flags.TC
            return reply
        case "cut", _, "tcp":
            return None
        case "half", "MX", _:
            return reply_to(query, f"{name} 300 MX 10 bad.test.")
        case "second", "MX", _:
            return reply_to(query, f"{name} 300 MX 10 bad.test.", f"{name} 300 MX 20 good.test.")
        case (("limping" | "long"), "MX", _):
            return reply_to(query, f"{name} 300 MX 10 limp.test.")
        case "good", "A", _:
            return reply_to(query, f"{name} 300 A {HOSTS['b']}")
        case "good", "AAAA", _:
            return reply_to(query)
        case "limp", "A", _:
            return reply_to(query, f"{name} 300 A {HOSTS['a']}")
    return _with(reply_to(query), dns.rcode.SERVFAIL)


def _with(reply: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    reply.set_rcode(rcode)
    return reply


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, show: Show) -> Iterator[list[Program]]:
    """Those for KNOT, LOOPBACK and ERRING, with the mail of all rows under way."""
    directory = tmp_path_factory.mktemp("dns")
    internet = Internet()
    internet.records += [f"{name} {_kind(address)} {address}" for name, address in HOSTS.items()]
    internet.records += [
        f"twin {kind} {HOSTS[name]}" for kind, name in (("A", "a"), ("AAAA", "six"))
    ]
    internet.records += EQUAL + [record for row in KNOT + LOOPBACK for record in row.records]
    reuse = {"reuse": "0 s"}
    with ExitStack() as stack:
        for name in LISTENING:
            stack.enter_context(Host(address=HOSTS[name], port=internet.port))
        names = stack.enter_context(internet.name_server(directory))
        scripted = stack.enter_context(ScriptedServer(erring))
        running = [
            outbound(directory / "knot", internet, names, relay=reuse),
            outbound(directory / "loopback", internet, names, relay={"loopback": False}),
            outbound(directory / "erring", internet, scripted),
        ]
        for server, rows in zip(running, (KNOT, LOOPBACK, ERRING), strict=True):
            stack.enter_context(server)
            for row in rows:
                submit(server, f"bob@{row.domain}", options=row.options)
        yield running
        show("What the DNS says", _table(running))


def _table(running: list[Program]) -> Iterator[str]:
    yield "row; what became of it; the host that took it, or what was said"
    for server, rows in zip(running, (KNOT, LOOPBACK, ERRING), strict=True):
        for row in rows:
            end = outcome(server, f"bob@{row.domain}")
            why = end["address"] if end["event"] == "delivered" else end["said"]
            yield f"{row.name:32} {end['event']:9} {end['status']:6} {why}"


def _kind(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def check(server: Program, row: Row) -> None:
    end = outcome(server, f"bob@{row.domain}")
    kinds = {"2": "delivered", "4": "deferred", "5": "failed"}
    assert (end["event"], end["status"]) == (kinds[row.status[0]], row.status)
    if row.status[0] == "2":
        assert end["address"] == row.end
    else:
        assert row.end in end["said"]


def names(row: Row) -> str:
    return row.name


@pytest.mark.parametrize("row", KNOT, ids=names)
def test_mail_goes_where_the_dns_says(row: Row, servers: list[Program]) -> None:
    check(servers[0], row)


@pytest.mark.parametrize("row", LOOPBACK, ids=names)
def test_rfc5321_5_1_mail_does_not_go_to_ourselves(row: Row, servers: list[Program]) -> None:
    check(servers[1], row)


@pytest.mark.parametrize("row", ERRING, ids=names)
def test_o4_name_server_that_errs_bounces_nothing(row: Row, servers: list[Program]) -> None:
    check(servers[2], row)


def test_rfc5321_5_1_equal_preferences_share_the_mail(servers: list[Program]) -> None:
    recipients = [f"user{number}@equal.test" for number in range(16)]
    for recipient in recipients:
        submit(servers[0], recipient)
    addresses = {outcome(servers[0], recipient)["address"] for recipient in recipients}
    assert addresses == {HOSTS["a"], HOSTS["b"]}
