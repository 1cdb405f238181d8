from __future__ import annotations

from pathlib import Path

import pytest

from pfsmtp.policy.access import InboundAccess, LoopbackAccess
from pfsmtp.policy.limits import ClientLimits, ClientTable
from pfsmtp.policy.users import UserMap
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.ports import AccessPolicy, Peer
from pfsmtp.smtp.reply import After, Reply

PEER = Peer("192.0.2.99", 40000, "198.51.100.1")
PEER6 = Peer("2001:db8:9::1", 40000, "2001:db8::1")
LOCAL = Peer("127.0.0.1", 40000, "127.0.0.1", loopback=True)


@pytest.fixture
def users(tmp_path: Path) -> UserMap:
    path = tmp_path / "users"
    path.write_text("alice : alice@example.org\nbob : @example.net\n")
    return UserMap.load(path)


@pytest.fixture
def inbound(users: UserMap) -> AccessPolicy:
    return InboundAccess(users, ["203.0.113.1", "::ffff:203.0.113.2"])


def answer(
    policy: AccessPolicy, local_part: str, domain: str, peer: Peer = PEER
) -> tuple[int, str] | None:
    """Code and status of the refusal, or None."""
    reply = policy.recipient(peer, None, Mailbox(local_part, domain))
    return (reply.code, str(reply.status)) if reply else None


@pytest.mark.parametrize(
    ("local_part", "domain", "expected"),
    [
        ("alice", "example.org", None),
        ("ALICE+tag", "Example.ORG", None),
        ("anyone", "example.net", None),
        ("nobody", "example.org", (550, "5.1.1")),
        ("alice", "example.com", (550, "5.7.1")),
        ("alice", "example.org.example.com", (550, "5.7.1")),
        ("postmaster", "", None),
        ("POSTMASTER", "", None),
        ("postmaster", "example.org", None),
        ("postmaster", "example.com", (550, "5.7.1")),
        ("nobody", "", (550, "5.1.1")),
        ("alice", "[198.51.100.1]", None),
        ("alice", "[203.0.113.1]", None),
        ("alice", "[203.0.113.2]", None),
        ("postmaster", "[198.51.100.1]", None),
        ("nobody", "[198.51.100.1]", (550, "5.1.1")),
        ("alice", "[198.51.100.2]", (550, "5.7.1")),
        ("postmaster", "[198.51.100.2]", (550, "5.7.1")),
        ("alice", "[IPv6:::ffff:198.51.100.1]", None),
        ("alice", "[IPv6:::1]", (550, "5.7.1")),
        ("alice", "[not an address]", (550, "5.7.1")),
        ("alice", "[", (550, "5.7.1")),
    ],
)
def test_inbound_recipient(
    inbound: AccessPolicy, local_part: str, domain: str, expected: tuple[int, str] | None
) -> None:
    assert answer(inbound, local_part, domain) == expected


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("[IPv6:2001:db8::1]", None),
        ("[ipv6:2001:0DB8:0:0::1]", None),
        ("[IPv6:2001:db8::2]", (550, "5.7.1")),
        ("[198.51.100.1]", (550, "5.7.1")),
    ],
)
def test_address_that_the_client_came_to_is_local(
    inbound: AccessPolicy, domain: str, expected: tuple[int, str] | None
) -> None:
    assert answer(inbound, "alice", domain, PEER6) == expected


def test_anyone_may_send_to_a_local_user(inbound: AccessPolicy) -> None:
    assert inbound.sender(PEER, Mailbox("eve", "example.com")) is None
    assert inbound.sender(PEER, None) is None


def test_too_many_unknown_users_end_the_connection(users: UserMap) -> None:
    limits = ClientLimits(
        ClientTable(1), 0, connections=1, rate=10, failures=3, clock=lambda: 600.0
    )
    policy = InboundAccess(users, [], limits=limits)

    def ask(local_part: str, peer: Peer) -> Reply | None:
        return policy.recipient(peer, None, Mailbox(local_part, "example.org"))

    replies = [ask("nobody", PEER) for _ in range(4)]
    assert [reply and reply.code for reply in replies] == [550, 550, 550, 421]
    assert replies[-1] is not None
    assert replies[-1].after is After.CLOSE
    assert ask("alice", PEER) is None
    assert answer(policy, "nobody", "example.com") == (550, "5.7.1")
    assert answer(policy, "nobody", "example.org", PEER6) == (550, "5.1.1")
    assert answer(policy, "nobody", "example.org", LOCAL) == (550, "5.1.1")


@pytest.fixture
def outbound() -> AccessPolicy:
    return LoopbackAccess(Mailbox("root", "example.org"))


@pytest.mark.parametrize(
    ("local_part", "domain", "expected"),
    [
        ("anyone", "example.com", None),
        ("anyone", "[192.0.2.1]", None),
        ("postmaster", "", None),
        ("Postmaster", "", None),
        ("root", "", (553, "5.1.3")),
    ],
)
def test_outbound_recipient(
    outbound: AccessPolicy, local_part: str, domain: str, expected: tuple[int, str] | None
) -> None:
    assert answer(outbound, local_part, domain, LOCAL) == expected


def test_outbound_postmaster_who_is_not_configured() -> None:
    assert answer(LoopbackAccess(None), "postmaster", "", LOCAL) == (550, "5.1.1")


def test_outbound_is_for_this_machine_only(outbound: AccessPolicy) -> None:
    assert outbound.sender(LOCAL, None) is None
    reply = outbound.sender(PEER, Mailbox("eve", "example.com"))
    assert reply is not None
    assert (reply.code, str(reply.status), reply.after) == (554, "5.7.1", After.CLOSE)
    assert answer(outbound, "anyone", "example.com", PEER) == (554, "5.7.1")
