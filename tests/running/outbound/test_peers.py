"""Mail relayed to servers that are not ours, and to our own over IPv6; and Postfix's smtp-sink.

Each listens at an address of its own; all at the port that the relay goes to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_pair
from tests.figures import Show
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.peers import aiosmtpd, postfix, smtp_sink
from tests.running.outbound.post import outcome, submit
from tests.running.program import Event, Program, eventually

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef 0123456789abcdef\r\n" * 100_000
TEXT = LARGE.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
"""The same behind its header, as it is stored."""


@dataclass(frozen=True, slots=True)
class Sink:
    """A row: how smtp-sink is started, and what becomes of a message for it."""

    name: str
    options: tuple[str, ...]
    kind: str
    said: str = "250"
    message: bytes = b"Subject: hello\r\n\r\nHello\r\n"


def sink(name: str, options: str, kind: str, said: str = "250", **more: Any) -> Sink:
    return Sink(name, tuple(options.split()), kind, said, **more)


HARD, SOFT, GOING = "500 5.3.0", "450 4.3.0", "421"

SINKS = [
    sink("takes all", "", "delivered"),
    sink("takes much", "", "delivered", message=LARGE),
    sink("no ESMTP", "-e", "delivered"),
    sink("no PIPELINING", "-p", "delivered"),
    sink("no 8BITMIME", "-8", "delivered"),
    sink("a PIX before it", "-P", "delivered"),
    sink("slow", "-W .:2", "delivered"),
    sink("aborts in the message", "-A 0", "failed", "550", message=LARGE),
    sink("hangs at CONNECT", "-W CONNECT:30", "deferred", "did not answer in time"),
    sink("hangs at EHLO", "-W EHLO:30", "deferred", "did not answer in time"),
    sink("hangs at MAIL", "-p -W MAIL:30", "deferred", "did not answer in time"),
    sink("hangs at RCPT", "-p -W RCPT:30", "deferred", "did not answer in time"),
    sink("hangs at DATA", "-p -w 30", "deferred", "did not answer in time"),
    sink("hangs at the final dot", "-W .:30", "deferred", "did not answer in time"),
    sink("refuses EHLO, so HELO", "-f EHLO", "delivered"),
    *(
        sink(f"refuses {command}", f"-f {command}", "failed", HARD)
        for command in ("MAIL", "RCPT", "DATA", ".")
    ),
    *(
        row
        for command in ("EHLO", "MAIL", "RCPT", "DATA", ".")
        for row in (
            sink(f"not now {command}", f"-r {command}", "deferred", SOFT),
            sink(f"drops at {command}", f"-q {command}", "deferred", "the connection"),
            sink(f"421 at {command}", f"-Q {command}", "deferred", GOING),
        )
    ),
]


@dataclass(frozen=True, slots=True)
class Site:
    """Where the peers of the other tests listen; the outbound server that relays to them."""

    server: Program
    port: int
    addresses: Mapping[str, str]  # by the first label of the domain


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, show: Show) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("peers")
    internet = Internet()
    addresses = {name: internet.address() for name in ("postfix", "aiosmtpd")} | {"six": "::1"}
    for name, address in addresses.items():
        internet.domain(name, address)
    with ExitStack() as stack:
        for number, row in enumerate(SINKS):
            address = internet.address()
            internet.domain(f"sink{number}", address)
            stack.enter_context(smtp_sink(address, internet.port, *row.options))
        names = stack.enter_context(internet.name_server(directory))
        server = stack.enter_context(outbound(directory / "out", internet, names))
        for number, row in enumerate(SINKS):
            submit(server, f"bob@sink{number}.test", message=row.message)
        yield Site(server, internet.port, addresses)
        show("smtp-sink", (_line(row, _sunk(server, row)) for row in SINKS))
    assert "Traceback" not in server.log_text()


def _sunk(server: Program, row: Sink) -> Event:
    return outcome(server, f"bob@sink{SINKS.index(row)}.test")


def _line(row: Sink, end: Event) -> str:
    return f"{row.name:24} {' '.join(row.options):16} {end['event']:9} {end['said']}"


@pytest.mark.parametrize("row", SINKS, ids=[row.name for row in SINKS])
def test_smtp_sink(row: Sink, site: Site) -> None:
    end = _sunk(site.server, row)
    assert end["event"] == row.kind
    assert row.said in end["said"]


def test_postfix_receives_over_starttls(site: Site, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "postfix", ["mx1-postfix.test"])
    mailboxes = [f"user{number}@postfix.test" for number in range(60)]
    place = site.addresses["postfix"], site.port
    with postfix(tmp_path / "postfix", *place, mailboxes=mailboxes, pair=pair) as mail:
        submit(site.server, *mailboxes)
        submit(site.server, mailboxes[0], message=LARGE)
        eventually(lambda: len(list(mail.glob("*/new/*"))) == 61, what="all messages")
        stored = sorted((path.read_bytes() for path in mail.glob(f"{mailboxes[0]}/new/*")), key=len)
        assert len(stored) == 2
    small, large = stored
    assert small.endswith(b"\n\nHello\n")
    assert large.endswith(TEXT)
    assert re.search(rb"Received: from out.example.org .*\n\t\(using TLSv1.3 with cipher", small)
    assert outcome(site.server, mailboxes[0])["tls"].endswith("certificate self-signed")


def test_aiosmtpd_receives_over_starttls(site: Site, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "aiosmtpd", ["mx1-aiosmtpd.test"])
    mail = tmp_path / "mail"
    recipients = "bob@aiosmtpd.test", "j\u00fcrgen@aiosmtpd.test"
    with aiosmtpd(site.addresses["aiosmtpd"], site.port, maildir=mail, pair=pair):
        submit(site.server, *recipients, message=LARGE, options=["SMTPUTF8", "BODY=8BITMIME"])
        end = outcome(site.server, recipients[0])
    assert end["event"] == "delivered"
    assert end["tls"].startswith("TLSv1.3")
    (stored,) = (path.read_bytes() for path in (mail / "new").iterdir())
    assert message_from_bytes(stored, policy=policy.default)["X-RcptTo"] == ", ".join(recipients)
    assert stored.endswith(TEXT)


def test_pfsmtp_receives_over_ipv6_and_starttls(site: Site, tmp_path: Path) -> None:
    inbound = Program.inbound(tmp_path)
    users = tmp_path / "users"
    users.write_text("alice : alice@six.test\n")
    inbound.reconfigure(listen={"smtp": [f"[::1]:{site.port}"], "smtps": []})
    with inbound:
        submit(site.server, "alice@six.test")
        end = outcome(site.server, "alice@six.test")
        assert (end["event"], end["address"]) == ("delivered", "::1")
        assert end["tls"].startswith("TLSv1.3")
        (message,) = inbound.stored("alice")
    assert b"Received: from out.example.org ([IPv6:::1])" in message
    assert b" with ESMTPS id " in message
