"""The other side, row by row (see `cases`): what becomes of each recipient, and who hears of it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.certificates import make_issuer, make_pair, rsa_key
from tests.delivery.hosts import BlackHole, Host, Stored
from tests.figures import Show
from tests.running.outbound.cases import HOLE, Case, Does, Fate, cases
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import OUTCOMES, submit, views
from tests.running.program import Event, Program, eventually

CASES = list(cases())

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a row; recipients by local-part."""

    ends: Mapping[str, Event]
    connections: tuple[int, ...]
    stored: list[Stored]
    told: list[set[str]]  # of whom each bounce told the sender
    waiting: set[str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, show: Show) -> Iterator[Mapping[str, Seen]]:
    """Run all rows."""
    directory = tmp_path_factory.mktemp("other-side")
    contexts = _contexts(directory)
    internet = Internet()
    hosts: dict[str, list[Host | BlackHole | None]] = {}
    with ExitStack() as stack:
        home = stack.enter_context(_home(internet))
        for number, case in enumerate(CASES):
            addresses = [internet.address() for _ in case.hosts]
            internet.domain(f"row{number}", *addresses)
            hosts[case.name] = [
                _host(does, address, internet.port, contexts)
                for does, address in zip(case.hosts, addresses, strict=True)
            ]
            for host in hosts[case.name]:
                if host is not None:
                    stack.enter_context(host)
        names = stack.enter_context(internet.name_server(directory))
        server = stack.enter_context(outbound(directory / "out", internet, names))
        for number, case in enumerate(CASES):
            recipients = [f"{name}@row{number}.test" for name in _fates(case)]
            submit(
                server,
                *recipients,
                sender=f"row{number}@home.test",
                message=case.message,
                options=case.options,
            )
        rows = _watch(server, home, hosts)
        show("The other side", _matrix(rows))
        yield rows
    assert "Traceback" not in server.log_text() + server.errors.read_text()


def _home(internet: Internet) -> Host:
    """Where the senders' mail goes."""
    address = internet.address()
    internet.domain("home", address)
    return Host(address=address, port=internet.port)


def _host(
    does: Does | str | None, address: str, port: int, contexts: Mapping[str, ssl.SSLContext]
) -> Host | BlackHole | None:
    if does is None:
        return None
    if does == HOLE:
        return BlackHole(address, port)
    assert isinstance(does, Does)
    tls = contexts[does.certificate] if does.certificate else None
    return Host(does.replies, does.extensions, tls, address=address, port=port)


def _contexts(directory: Path) -> dict[str, ssl.SSLContext]:
    """What hosts show and speak, by name."""
    issuer = make_issuer("nobody knows it")
    pairs = {
        "self-signed": make_pair(directory, "self", ["*.test"]),
        "expired": make_pair(directory, "expired", ["*.test"], days=(-30, -2), chain=[issuer]),
        "for another name": make_pair(directory, "other", ["other.example"], chain=[issuer]),
        "of an unknown authority": make_pair(directory, "unknown", ["*.test"], chain=[issuer]),
        "old": make_pair(directory, "old", ["*.test"], key=rsa_key()),
        "unusable": make_pair(directory, "unusable", ["*.test"]),
    }
    contexts = {}
    for name, pair in pairs.items():
        context = contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
    contexts["old"].set_ciphers("ALL:@SECLEVEL=0")
    contexts["old"].minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    contexts["old"].maximum_version = ssl.TLSVersion.TLSv1
    # A cipher for an RSA key, which it has not got.
    contexts["unusable"].maximum_version = ssl.TLSVersion.TLSv1_2
    contexts["unusable"].set_ciphers("AES128-SHA")
    return contexts


def _fates(case: Case) -> dict[str, Fate]:
    return {"bob": case.fate, **case.others}


def _watch(
    server: Program, home: Host, hosts: Mapping[str, list[Host | BlackHole | None]]
) -> dict[str, Seen]:
    """Wait until the first attempts and all bounces are over."""
    expected = sum(len(_fates(case)) for case in CASES)
    eventually(lambda: len(_ends(server)) >= expected, what="an outcome for each recipient")
    ends = _ends(server)
    bounced = {end["sender"] for end in ends if end["event"] == "failed"}
    eventually(lambda: len(home.stored) >= len(bounced), what="a bounce for each row that failed")
    queue = [
        str(each.recipient.mailbox)
        for view in views(server)
        for each in view.entry.addressees
        if each.pending
    ]
    rows = {}
    for number, case in enumerate(CASES):
        domain = f"@row{number}.test"
        listening = [host for host in hosts[case.name] if isinstance(host, Host)]
        rows[case.name] = Seen(
            {
                end["recipient"].removesuffix(domain): end
                for end in ends
                if end["recipient"].endswith(domain)
            },
            tuple(host.connections if isinstance(host, Host) else 0 for host in hosts[case.name]),
            [each for host in listening for each in host.stored],
            [
                _about(each.octets)
                for each in home.stored
                if each.recipients == [f"RCPT TO:<row{number}@home.test>".encode()]
            ],
            {name.removesuffix(domain) for name in queue if name.endswith(domain)},
        )
    return rows


def _ends(server: Program) -> list[Event]:
    """What became of the recipients of all rows, so far."""
    return [
        event
        for event in server.events()
        if event["event"] in OUTCOMES and not event["recipient"].endswith("@home.test")
    ]


def _about(bounce: bytes) -> set[str]:
    """The local-parts of those that a bounce says it is about."""
    found = re.findall(rb"^Final-Recipient: rfc822; ?([^@\r]+)@", bounce, re.MULTILINE)
    return {name.decode("ascii") for name in found}


def _matrix(rows: Mapping[str, Seen]) -> Iterator[str]:
    yield "row; recipient; connections to each host; what became of it"
    for case in CASES:
        row = rows[case.name]
        connections = "/".join(map(str, row.connections))
        for name, end in row.ends.items():
            clear = "in clear" if end["event"] == "delivered" else ""
            yield (
                f"{case.name:36} {name:6} {connections:4} {end['event']:9} {end['status']} "
                f"{end['said'][:70]} {end['tls'] or clear}"
            )


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_row(case: Case, seen: Mapping[str, Seen]) -> None:
    row, fates = seen[case.name], _fates(case)
    assert set(row.ends) == set(fates)
    for name, fate in fates.items():
        end = row.ends[name]
        assert (end["event"], end["status"]) == (fate.kind, fate.status)
        assert fate.said in end["said"]
        assert end["host"].startswith(f"mx{fate.host}-")
        assert fate.tls in (end["tls"] or "")
        assert bool(fate.tls) == bool(end["tls"])
    assert row.connections == case.connections
    assert row.waiting == _of_kind(case, "deferred")
    assert row.told == ([failed] if (failed := _of_kind(case, "failed")) else [])
    recipients = [recipient for each in row.stored for recipient in each.recipients]
    assert len(recipients) == len(set(recipients)) <= len(_of_kind(case, "delivered"))


def _of_kind(case: Case, kind: str) -> set[str]:
    return {name for name, fate in _fates(case).items() if fate.kind == kind}


@pytest.mark.parametrize("name", ["8-bit, for a 7-bit host", "lines too long"])
def test_what_a_host_cannot_take_is_re_encoded(name: str, seen: Mapping[str, Seen]) -> None:
    (case,) = (case for case in CASES if case.name == name)
    (stored,) = seen[name].stored
    assert stored.octets.isascii()
    assert max(map(len, stored.octets.split(b"\r\n"))) <= 998
    text = message_from_bytes(stored.octets).get_payload(decode=True)
    assert text == case.message.partition(b"\r\n\r\n")[2]
