"""Mail sent with software that is not ours, and read back with software that is not ours.

What is stored is what was sent, octet for octet, but for line ends and our own trace fields.
"""

from __future__ import annotations

import mailbox
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest

from tests import needs
from tests.corpus import Sample, dots, lines, octets, on_the_wire, refused, taken
from tests.running import dovecot
from tests.running.mail import assert_same
from tests.running.program import PATIENCE, Program, Talk, any_server, open_to_nobody

SENDER = "sender@example.net"
CLEAR, STARTTLS, SMTPS, IPV6 = WAYS = (
    "in clear",
    "over STARTTLS",
    "over TLS from the first octet",
    "over IPv6",
)

TORTURE = b"".join(message for _, message in chain(dots(), octets(), lines()))
"""A message of all that is hard to carry, for software that sends one message at a time."""
THE_ONE = [("torture", TORTURE)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """On IPv4 and IPv6; its mail is somebody's whose mail Dovecot reads."""
    directory = tmp_path_factory.mktemp("clients")
    server = Program.inbound(directory)
    listen = {
        "smtp": [f"127.0.0.1:{server.port}", f"[::1]:{server.port}"],
        "smtps": [f"127.0.0.1:{server.smtps_port}", f"[::1]:{server.smtps_port}"],
    }
    server.reconfigure(listen=listen, **open_to_nobody(directory))
    with server:
        yield server
    assert "Traceback" not in server.errors.read_text()
    assert server.events("connection-bug") == []


@pytest.fixture(scope="module")
def corpus() -> list[Sample]:
    return list(taken())


def run(command: list[str | Path], *, octets: bytes = b"") -> str:
    """Run a program to its end, which has to be a good one, and return what it says."""
    done = subprocess.run(
        command, input=octets, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, said[-4000:]
    return said


def as_file(directory: Path, octets: bytes, name: str = "message.eml") -> Path:
    path = directory / name
    path.write_bytes(octets)
    return path


# -- Python's smtplib


def smtplib_client(server: Program, way: str) -> smtplib.SMTP:
    if way == SMTPS:
        return smtplib.SMTP_SSL(
            "127.0.0.1", server.smtps_port, timeout=PATIENCE, context=any_server()
        )
    host = "::1" if way == IPV6 else "127.0.0.1"
    client = smtplib.SMTP(host, server.port, timeout=PATIENCE)
    if way == STARTTLS:
        client.starttls(context=any_server())
    return client


@pytest.mark.parametrize("way", WAYS)
def test_corpus_sent_by_smtplib_is_stored_as_it_was_sent(
    server: Program, corpus: list[Sample], way: str
) -> None:
    # smtplib makes a line of a message that has none.
    samples = [(name, message) for name, message in corpus if message]
    with smtplib_client(server, way) as client:
        for _, message in samples:
            client.sendmail(SENDER, ["alice@example.org"], message)
    assert_same(samples, server.take("alice"))


@pytest.mark.parametrize("way", [CLEAR, STARTTLS])
def test_refused_corpus_sent_by_smtplib_leaves_nothing(server: Program, way: str) -> None:
    answers = {}
    for name, message in refused():
        with smtplib_client(server, way) as client:
            client.ehlo()
            client.mail(SENDER)
            client.rcpt("alice@example.org")
            answers[name] = client.data(message)
            # The dialogue is in step: no part of the message was taken for a command.
            assert client.noop()[0] == 250, name
    assert {name: answer for name, answer in answers.items() if answer[0] != 554} == {}
    assert server.files("alice") == []
    assert server.leftovers() == []


def test_several_recipients_by_smtplib_get_the_message_each(server: Program) -> None:
    with smtplib_client(server, CLEAR) as client:
        refusals = client.sendmail(
            SENDER, ["alice@example.org", "nobody@example.org", "bob@example.org"], TORTURE
        )
    assert {address: code for address, (code, _) in refusals.items()} == {"nobody@example.org": 550}
    for login in ("alice", "bob"):
        assert_same(THE_ONE, server.take(login))


# -- curl


CURL = {
    CLEAR: ["smtp://127.0.0.1:{port}"],
    STARTTLS: ["smtp://127.0.0.1:{port}", "--ssl-reqd", "--insecure"],
    SMTPS: ["smtps://127.0.0.1:{smtps_port}", "--insecure"],
    IPV6: [r"smtp://\[::1\]:{port}"],
}


@pytest.mark.parametrize("way", WAYS)
def test_corpus_sent_by_curl_is_stored_as_it_was_sent(
    server: Program, corpus: list[Sample], way: str, tmp_path: Path
) -> None:
    curl = needs.tool("curl")
    for index, (_, message) in enumerate(corpus):
        as_file(tmp_path, message, f"{index:03}.eml")
    arguments = [part.format(**vars(server)) for part in CURL[way]]
    files = f"{tmp_path}/[000-{len(corpus) - 1:03}].eml"
    envelope = ["--mail-from", SENDER, "--mail-rcpt", "alice@example.org"]
    run([curl, "--silent", "--show-error", *arguments, *envelope, "--upload-file", files])
    assert_same(corpus, server.take("alice"))


# -- swaks


SWAKS = {
    CLEAR: ["--server", "127.0.0.1", "--port", "{port}"],
    STARTTLS: ["--server", "127.0.0.1", "--port", "{port}", "--tls"],
    SMTPS: ["--server", "127.0.0.1", "--port", "{smtps_port}", "--tlsc"],
    IPV6: ["-6", "--server", "::1", "--port", "{port}"],
}


def send_by_swaks(server: Program, way: str, message: bytes, directory: Path) -> None:
    swaks = needs.tool("swaks")
    # swaks adds the line end behind the dot.
    wire = as_file(directory, on_the_wire(message).removesuffix(b"\r\n"))
    arguments = [part.format(**vars(server)) for part in SWAKS[way]]
    envelope = ["--from", SENDER, "--to", "alice@example.org", "--helo", "client.example.net"]
    said = run([swaks, *arguments, *envelope, "--no-data-fixup", "--data", f"@{wire}"])
    assert ("=== TLS started" in said) == (way in (STARTTLS, SMTPS))


@pytest.mark.parametrize("way", WAYS)
def test_message_sent_by_swaks_is_stored_as_it_was_sent(
    server: Program, way: str, tmp_path: Path
) -> None:
    send_by_swaks(server, way, TORTURE, tmp_path)
    (stored,) = server.take("alice")
    assert_same(THE_ONE, [stored])
    keyword = b"with ESMTP id" if way in (CLEAR, IPV6) else b"with ESMTPS id"
    assert keyword in stored
    assert (b"([IPv6:::1])" if way == IPV6 else b"([127.0.0.1])") in stored


def test_mail_sent_by_swaks_over_starttls_is_read_back_by_dovecot_as_it_was_sent(
    server: Program, tmp_path: Path
) -> None:
    send_by_swaks(server, STARTTLS, TORTURE, tmp_path)
    read = dovecot.read(server.maildir("alice"))
    assert_same(THE_ONE, read)
    assert read == server.take("alice")


# -- msmtp


MSMTP = {
    CLEAR: ["--host=127.0.0.1", "--port={port}", "--tls=off"],
    STARTTLS: ["--host=127.0.0.1", "--port={port}", "--tls=on", "--tls-starttls=on"],
    SMTPS: [
        "--host=127.0.0.1",
        "--port={smtps_port}",
        "--tls=on",
        "--tls-starttls=off",
    ],
    IPV6: ["--host=::1", "--port={port}", "--tls=off"],
}


@pytest.mark.parametrize("way", WAYS)
def test_message_sent_by_msmtp_is_stored_as_it_was_sent(server: Program, way: str) -> None:
    msmtp = needs.tool("msmtp")
    arguments = [part.format(**vars(server)) for part in MSMTP[way]]
    asis = ["--file=/dev/null", "--tls-certcheck=off", "--set-date-header=off"]
    asis += ["--set-from-header=off", "--set-msgid-header=off", "--remove-bcc-headers=off"]
    message = TORTURE.replace(b"\r\n", b"\n")
    envelope = [f"--from={SENDER}", "alice@example.org"]
    run([msmtp, *arguments, *asis, *envelope], octets=message)
    assert_same(THE_ONE, server.take("alice"))


# -- Postfix


@pytest.mark.parametrize("address", ["inet:127.0.0.1:{port}", "inet:[::1]:{port}"])
def test_messages_sent_by_smtp_source_are_stored_as_they_were_sent(
    server: Program, address: str, tmp_path: Path
) -> None:
    source = needs.tool("smtp-source", package="postfix")
    message = TORTURE.replace(b"\r\n", b"\n")
    load = ["-s", "10", "-m", "50", "-F", str(as_file(tmp_path, message))]
    run([source, *load, "-f", SENDER, "-t", "alice@example.org", address.format(**vars(server))])
    # smtp-source begins a line before the dot in any case.
    assert_same(50 * [("torture", TORTURE + b"\r\n")], server.take("alice"))


# -- OpenSSL


@contextmanager
def s_client(server: Program, way: str) -> Iterator[Talk]:
    """Talk through `openssl s_client`, from where EHLO is to be said."""
    options = ["-quiet", "-connect", f"127.0.0.1:{server.smtps_port}"]
    if way == STARTTLS:
        options = ["-quiet", "-connect", f"127.0.0.1:{server.port}", "-starttls", "smtp"]
    ours, theirs = socket.socketpair()
    with Talk.over(ours) as client, theirs:
        ours.settimeout(PATIENCE)
        tool = subprocess.Popen(
            [needs.tool("openssl"), "s_client", *options],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        try:
            if way != STARTTLS:
                assert client.hear().startswith("220")
            yield client
        finally:
            tool.kill()
            tool.wait()


@pytest.mark.parametrize("way", [STARTTLS, SMTPS])
def test_corpus_sent_by_s_client_is_stored_as_it_was_sent(
    server: Program, corpus: list[Sample], way: str
) -> None:
    with s_client(server, way) as client:
        client.hello()
        for name, message in corpus:
            client.envelope()
            client.send(on_the_wire(message))
            assert client.hear().startswith("250"), name
        assert client.say("QUIT").startswith("221")
        assert client.closed()
    assert_same(corpus, server.take("alice"))


# -- readers


def test_corpus_is_read_by_python_and_by_dovecot_as_it_was_sent(
    server: Program, corpus: list[Sample]
) -> None:
    with Talk(server.port) as client:
        client.greet()
        for name, message in corpus:
            client.envelope()
            client.send(on_the_wire(message))
            assert client.hear().startswith("250"), name
    maildir = mailbox.Maildir(server.maildir("alice"), create=False)
    assert_same(corpus, [maildir.get_bytes(key) for key in maildir.keys()])  # noqa: SIM118
    assert_same(corpus, dovecot.read(server.maildir("alice")))
    server.take("alice")
