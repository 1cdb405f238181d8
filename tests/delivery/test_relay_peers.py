"""The relay and servers that are not ours: Postfix's smtp-sink in its moods, and aiosmtpd."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from pfsmtp.smtp.outcome import Kind
from tests import needs
from tests.certificates import make_pair
from tests.delivery.relaying import MESSAGE, Relaying


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    """Run smtp-sink; the value is its port."""
    program = needs.tool("smtp-sink", package="postfix")
    port = free_port()
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    command = [program, *user, *options, f"127.0.0.1:{port}", "100"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as sink:
        try:
            end = time.monotonic() + 10
            while time.monotonic() < end:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.01)
            yield port
        finally:
            sink.kill()


@pytest.mark.parametrize("options", ["", "-p", "-e", "-8", "-P", "-N", "-E", "-w 1", "-H 1"])
def test_smtp_sink_takes_messages(options: str) -> None:
    with smtp_sink(*options.split()) as port:
        test = Relaying(port=port)
        outcomes = test.deliver("a", "b") + test.deliver("c")
        assert [outcome.kind for outcome in outcomes] == [Kind.DELIVERED] * 3


@pytest.mark.parametrize(
    ("options", "kind", "uncertain"),
    [
        ("-f CONNECT", Kind.FAILED, False),
        ("-f EHLO,HELO", Kind.FAILED, False),
        ("-f MAIL", Kind.FAILED, False),
        ("-f RCPT", Kind.FAILED, False),
        ("-f DATA", Kind.FAILED, False),
        ("-f .", Kind.FAILED, False),
        ("-r CONNECT", Kind.DEFERRED, False),
        ("-r EHLO", Kind.DEFERRED, False),
        ("-r MAIL", Kind.DEFERRED, False),
        ("-r RCPT", Kind.DEFERRED, False),
        ("-r DATA", Kind.DEFERRED, False),
        ("-r .", Kind.DEFERRED, False),
        ("-q CONNECT", Kind.DEFERRED, False),
        ("-q EHLO", Kind.DEFERRED, False),
        ("-q MAIL", Kind.DEFERRED, False),
        ("-q RCPT", Kind.DEFERRED, False),
        ("-q DATA", Kind.DEFERRED, False),
        ("-q .", Kind.DEFERRED, True),
        ("-Q CONNECT", Kind.DEFERRED, False),
        ("-Q EHLO", Kind.DEFERRED, False),
        ("-Q MAIL", Kind.DEFERRED, False),
        ("-Q RCPT", Kind.DEFERRED, False),
        ("-Q DATA", Kind.DEFERRED, False),
        ("-Q .", Kind.DEFERRED, False),
        ("-A 0", Kind.FAILED, False),
    ],
)
def test_smtp_sink_refuses(options: str, kind: Kind, uncertain: bool) -> None:
    with smtp_sink(*options.split()) as port:
        for outcome in Relaying(port=port).deliver("a", "b"):
            assert (outcome.kind, outcome.uncertain) == (kind, uncertain)


def test_smtp_sink_refuses_ehlo_but_not_helo() -> None:
    with smtp_sink("-f", "EHLO") as port:
        assert Relaying(port=port).deliver_one().kind is Kind.DELIVERED


class Keeper:
    """Keeps what aiosmtpd was given."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.encrypted: list[bool] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        self.encrypted.append(session.ssl is not None)
        return "250 kept"


class Server(Controller):
    """aiosmtpd in a thread; stopping it while a connection is open leaks the connection."""

    def __init__(self, keeper: Keeper, context: ssl.SSLContext) -> None:
        self.lost = threading.Event()
        super().__init__(
            keeper,
            hostname="127.0.0.1",
            port=free_port(),
            tls_context=context,
            require_starttls=True,
            enable_SMTPUTF8=True,
        )

    def factory(self) -> SMTP:
        server = self

        class Protocol(SMTP):
            def connection_lost(self, error: Exception | None) -> None:
                super().connection_lost(error)
                server.lost.set()

        return Protocol(self.handler, **self.SMTP_kwargs)


def test_aiosmtpd_over_starttls(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["mx1.example.org"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    keeper = Keeper()
    server = Server(keeper, context)
    server.start()
    try:
        test = Relaying(port=server.port)
        outcomes = test.deliver("a", "b") + test.deliver("jürgen", smtputf8=True)
        test.relay.close()
        assert server.lost.wait(10)
    finally:
        server.stop()
    assert [outcome.kind for outcome in outcomes] == [Kind.DELIVERED] * 3
    assert [envelope.original_content for envelope in keeper.envelopes] == [MESSAGE, MESSAGE]
    assert keeper.envelopes[0].rcpt_tos == ["a@example.org", "b@example.org"]
    assert keeper.encrypted == [True, True]
