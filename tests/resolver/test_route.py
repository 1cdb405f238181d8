"""Routes found before a real name server with zones, and before some that misbehave."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import dns.message
import dns.rcode
import pytest

from pfsmtp.resolver import Destination, Ourselves, Resolver
from pfsmtp.resolver import NameServer as ServerAddress
from pfsmtp.smtp.errors import DeliveryFailure, PermanentFailure, TransientFailure
from tests.nameserver import NameServer, ScriptedServer, Transport, add_record, reply_to
from tests.resolver.conftest import resolver_asking, soon

US = Ourselves.known_as(["us.example.org"])
OUR_ADDRESS = Ourselves.known_as([], ["192.0.2.99"])
MX1 = [Destination("mx1.example.org", "2001:db8::1"), Destination("mx1.example.org", "192.0.2.1")]
MX2 = [Destination("mx2.example.org", "2001:db8::2"), Destination("mx2.example.org", "192.0.2.2")]


def route(
    server: NameServer | ScriptedServer, domain: str, own: Ourselves | None = None, seed: int = 1
) -> list[Destination]:
    resolver = resolver_asking([server.address], own=own, seed=seed)
    return list(resolver.route(domain, soon()).destinations())


def failure(
    server: NameServer | ScriptedServer, domain: str, own: Ourselves | None = None
) -> DeliveryFailure:
    with pytest.raises(DeliveryFailure) as caught:
        route(server, domain, own)
    return caught.value


def test_rfc5321_5_1_exchangers_by_preference_families_in_turn(name_server: NameServer) -> None:
    assert route(name_server, "example.org") == MX1 + MX2


def test_equals_are_tried_in_either_order(name_server: NameServer) -> None:
    orders = {route(name_server, "equals.example.org", seed=seed)[0].host for seed in range(20)}
    assert orders == {"mx1.example.org", "mx2.example.org"}


def test_rfc5321_5_1_domain_without_exchanger_is_its_own_host(name_server: NameServer) -> None:
    assert route(name_server, "bare.example.org") == [
        Destination("bare.example.org", "2001:db8::3"),
        Destination("bare.example.org", "192.0.2.3"),
    ]


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("alias.example.org", MX1 + MX2),
        ("EXAMPLE.ORG.", MX1 + MX2),
        ("abroad.example.org", [Destination("mx.example.net", "192.0.2.50")]),
        ("half-null.example.org", MX1),
        ("mx-missing.example.org", MX2),
        ("any.thing.wild.example.org", MX2),
        ("straße.example.org", MX1),
        ("brief.example.org", MX1),
        ("[192.0.2.7]", [Destination("[192.0.2.7]", "192.0.2.7")]),
        ("[IPv6:2001:DB8::7]", [Destination("[IPv6:2001:DB8::7]", "2001:db8::7")]),
    ],
)
def test_domain_leads_to_its_hosts(
    name_server: NameServer, domain: str, expected: list[Destination]
) -> None:
    assert route(name_server, domain) == expected


def test_exchanger_that_is_an_alias_is_tolerated(name_server: NameServer) -> None:
    assert route(name_server, "mx-alias.example.org") == [
        Destination("mail-alias.example.org", destination.address) for destination in MX1
    ]


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("missing.example.org", "5.1.2"),
        ("dangling.example.org", "5.1.2"),
        ("nothing.example.org", "5.1.2"),
        ("multicast.example.org", "5.1.2"),
        ("null.example.org", "5.1.10"),
        ("all-missing.example.org", "5.4.4"),
        ("itself.example.org", "5.4.4"),
        ("mx-literal.example.org", "4.4.3"),  # the server is not responsible for the root
        ("nowhere.example.org", "4.4.3"),
        ("not-served.example", "4.4.3"),
        ("loop-a.example.org", "4.4.3"),
        ("loopback.example.org", "5.4.6"),
        ("unspecified.example.org", "5.4.6"),
        ("mapped.example.org", "5.4.6"),
        ("[127.0.0.1]", "5.4.6"),
        ("[IPv6:::1]", "5.4.6"),
        ("[IPv6:::ffff:127.0.0.1]", "5.4.6"),
        ("[IPv6:::]", "5.4.6"),
        ("[300.0.0.1]", "5.1.2"),
        ("[x:y]", "5.1.2"),
        ("no name.example.org", "5.1.2"),
        ("", "5.1.2"),
    ],
)
def test_domain_that_takes_no_mail(name_server: NameServer, domain: str, status: str) -> None:
    assert str(failure(name_server, domain).status) == status


def test_loopback_destinations_are_reached_where_allowed(name_server: NameServer) -> None:
    allowed = Ourselves(loopback=True)
    assert [hop.address for hop in route(name_server, "loopback.example.org", allowed)] == [
        "::1",
        "127.0.0.1",
    ]
    assert route(name_server, "[127.0.0.1]", allowed)


@pytest.mark.parametrize("own", [US, OUR_ADDRESS])
def test_rfc5321_5_1_we_are_the_best_exchanger(name_server: NameServer, own: Ourselves) -> None:
    found = failure(name_server, "ours-first.example.org", own)
    assert (str(found.status), found.text) == (
        "5.4.6",
        "mail for ours-first.example.org loops back to us",
    )


def test_rfc5321_5_1_our_name_ends_the_list(name_server: NameServer) -> None:
    assert route(name_server, "ours-second.example.org", US) == MX1


def test_rfc5321_5_1_our_address_under_another_name_ends_the_list(name_server: NameServer) -> None:
    assert route(name_server, "by-address.example.org", OUR_ADDRESS) == MX1


def test_last_of_five_addresses_is_left_to_the_next_preference(name_server: NameServer) -> None:
    hosts = [hop.host for hop in route(name_server, "large.example.org")]
    assert hosts == ["large-host.example.org"] * 4 + ["mx2.example.org"]


def test_thousand_exchangers_give_five_addresses_of_the_best(name_server: NameServer) -> None:
    hosts = [hop.host for hop in route(name_server, "many.example")]
    assert hosts == [f"h{number}.many.example" for number in range(1, 6)]


def serving(records: list[str], broken: dict[str, dns.rcode.Rcode]) -> ScriptedServer:
    """A server with these records, that answers with an rcode for some names."""

    def answer(query: dns.message.Message, transport: Transport) -> dns.message.Message:
        name, rdtype = query.question[0].name.to_text(), query.question[0].rdtype.name
        reply = reply_to(query)
        if name in broken:
            reply.set_rcode(broken[name])
            return reply
        for record in records:
            owner, _, kind, _ = record.split(None, 3)
            if owner == name and kind == rdtype:
                add_record(reply, record)
        return reply

    return ScriptedServer(answer)


TWO = [
    "example.org. 300 MX 10 one.example.org.",
    "example.org. 300 MX 20 two.example.org.",
    "one.example.org. 300 A 192.0.2.1",
    "two.example.org. 300 A 192.0.2.2",
]


def test_hosts_of_worse_preference_are_looked_up_when_asked_for() -> None:
    with serving(TWO, {}) as server:
        hops = resolver_asking([server.address]).route("example.org", soon()).destinations()
        assert next(hops).host == "one.example.org"
        assert not any(name == "two.example.org" for name, *_ in server.asked)
        assert next(hops).host == "two.example.org"
        assert next(hops, None) is None


def test_servfail_for_the_exchangers_is_not_taken_for_none() -> None:
    records = ["example.org. 300 A 192.0.2.1"]
    with serving(records, {"example.org.": dns.rcode.SERVFAIL}) as server:
        found = failure(server, "example.org")
    assert isinstance(found, TransientFailure)
    assert found.text == "DNS look-up for example.org failed: SERVFAIL"


def test_host_that_cannot_be_looked_up_is_passed_over() -> None:
    with serving(TWO, {"one.example.org.": dns.rcode.SERVFAIL}) as server:
        assert [hop.host for hop in route(server, "example.org")] == ["two.example.org"]


def test_no_address_now_is_not_taken_for_none() -> None:
    broken = {"one.example.org.": dns.rcode.NXDOMAIN, "two.example.org.": dns.rcode.SERVFAIL}
    with serving(TWO, broken) as server:
        assert isinstance(failure(server, "example.org"), TransientFailure)


def test_better_host_that_cannot_be_looked_up_keeps_mail_from_bouncing_as_a_loop() -> None:
    own = Ourselves.known_as([], ["192.0.2.2"])
    with serving(TWO, {"one.example.org.": dns.rcode.SERVFAIL}) as server:
        assert isinstance(failure(server, "example.org", own), TransientFailure)
    with serving(TWO, {"one.example.org.": dns.rcode.NXDOMAIN}) as server:
        assert str(failure(server, "example.org", own).status) == "5.4.6"


def test_failure_further_down_ends_the_route_without_an_error() -> None:
    with serving(TWO, {"two.example.org.": dns.rcode.SERVFAIL}) as server:
        assert [hop.host for hop in route(server, "example.org")] == ["one.example.org"]


def test_second_route_comes_from_the_cache() -> None:
    with serving(TWO, {}) as server:
        resolver = resolver_asking([server.address])
        for _ in range(2):
            list(resolver.route("example.org", soon()).destinations())
    assert len(server.asked) == 4 + 1  # the MX, then AAAA and A of two hosts


def test_deadline_makes_a_silent_name_server_a_failure_for_now() -> None:
    with ScriptedServer(lambda query, transport: None) as server:
        resolver = resolver_asking([server.address])
        with pytest.raises(TransientFailure, match="timeout"):
            resolver.route("example.org", time.monotonic() + 0.1)


def test_relay_host_is_found_by_its_addresses_alone(name_server: NameServer) -> None:
    resolver = resolver_asking([name_server.address], own=US)
    route = resolver.host_route("mx1.example.org", soon())
    assert list(route.destinations()) == MX1
    here = resolver.host_route("here.example.org", soon())
    assert [hop.address for hop in here.destinations()] == ["::1", "127.0.0.1"]


@pytest.mark.parametrize("host", ["localhost", "[127.0.0.1]"])
def test_relay_host_may_be_this_machine(name_server: NameServer, host: str) -> None:
    route = resolver_asking([name_server.address]).host_route(host, soon())
    assert "127.0.0.1" in [hop.address for hop in route.destinations()]


@pytest.mark.parametrize("host", ["missing.example.org", "nothing.example.org", "[x]", "a b"])
def test_relay_host_that_is_not_found_bounces_nothing(name_server: NameServer, host: str) -> None:
    with pytest.raises(TransientFailure) as caught:
        resolver_asking([name_server.address]).host_route(host, soon())
    assert str(caught.value.status) == "4.3.5"


def test_resolver_is_built_with_name_servers(name_server: NameServer) -> None:
    resolver = Resolver.asking(
        [ServerAddress.parse(name_server.address)],
        time.monotonic,
        source=random.Random(1),
        own=Ourselves(),
    )
    assert list(resolver.route("example.org", soon()).destinations()) == MX1 + MX2
    with pytest.raises(PermanentFailure):
        resolver.route("missing.example.org", soon())


def test_import_does_not_bring_in_more_of_dnspython_than_is_used() -> None:
    code = "import sys, pfsmtp.resolver; print('dns.resolver' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
