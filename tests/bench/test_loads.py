"""What sends the loads: each message of a cell arrives, at a server of the benchmarks' own."""

from __future__ import annotations

import smtplib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import loads
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from bare import Bare
from disk import DiskAlone
from inbound import WORDS, IntoMaildirs
from loads import Cell, RunFailedError, compiled, compiled_load, run_load
from peers import PeerError, Server, Site, default_command, free_port, running

from tests import needs

MESSAGES = 40
CLEAR = ("2:1k", "2:1k:reuse", "2:100k", "2:1k:ten")
OVER_TLS = ("2:1k:tls", "2:1k:tls:resume", "2:1k:tls:reuse", "2:100k:tls")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    needs.tool("openssl")
    return Site(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def workload(site: Site) -> IntoMaildirs:
    needs.tool("cc", package="gcc")
    try:
        compiled_load(site.root)
    except PeerError as error:
        needs.lacking(str(error))
    return IntoMaildirs(command=default_command(), settings="[workers]\nprocesses = 1")


@pytest.fixture(scope="module")
def server(workload: IntoMaildirs, site: Site) -> Iterator[Server]:
    # Whatever the cell, it is the same server; this one has what sends over TLS compiled.
    with running(workload.server("pfsmtp", Cell(1, 1024, ("tls",)), site)) as server:
        yield server


@pytest.mark.parametrize("text", CLEAR)
def test_load_in_clear_arrives(text: str, workload: IntoMaildirs, server: Server) -> None:
    needs.tool("smtp-source", package="postfix")
    arrives(text, workload, server)


@pytest.mark.parametrize("text", OVER_TLS)
def test_load_over_tls_arrives(text: str, workload: IntoMaildirs, server: Server) -> None:
    arrives(text, workload, server)


def arrives(text: str, workload: IntoMaildirs, server: Server) -> None:
    cell = Cell.parse(text, WORDS)
    before = workload.delivered(server)
    workload.send(server, cell, MESSAGES)
    assert workload.delivered(server) == before + MESSAGES * cell.recipients
    workload.check(server, Cell(1, 1024))


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ((), "handshakes=9 resumed=0\n"),
        (("-R",), "handshakes=9 resumed=8\n"),
        (("-d",), "handshakes=1 resumed=0\n"),
    ],
)
def test_load_over_tls_counts_its_handshakes(
    options: tuple[str, ...], counts: str, workload: IntoMaildirs, server: Server, site: Site
) -> None:
    program = compiled_load(site.root)
    command = [str(program), *options, "-s", "1", "-m", "9", "-l", "1024"]
    command += ["-f", "load@bench.test", "-t", "u@bench.test", server.address]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == counts


class Recipients:
    """Notes for whom mail came to aiosmtpd."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.seen += envelope.rcpt_tos
        return "250 seen"


def test_load_for_many_domains_goes_to_one_after_the_other(
    workload: IntoMaildirs, site: Site
) -> None:
    program = compiled_load(site.root)
    handler = Recipients()
    sink = Controller(handler, hostname="127.0.0.1", port=free_port())
    sink.start()
    command = [str(program), "-c", "-s", "2", "-m", "12", "-l", "1024", "-n", "4"]
    command += ["-f", "load@bench.test", "-t", "u@d%.bench.test", f"127.0.0.1:{sink.port}"]
    try:
        run_load(command)
    finally:
        sink.stop()
    assert sorted(handler.seen) == sorted([f"u@d{n}.bench.test" for n in range(4)] * 3)


def test_load_that_is_refused_fails_the_run(
    workload: IntoMaildirs, server: Server, site: Site
) -> None:
    program = compiled_load(site.root)
    with pytest.raises(RunFailedError, match="550"):
        loads.send_over_tls(
            program, server, Cell(1, 1024), 1, sender="a@bench.test", recipient="x@bench.test"
        )


def test_message_that_is_short_fails_the_run(tmp_path: Path) -> None:
    workload = IntoMaildirs(command=default_command(), settings="")
    server = workload.server("pfsmtp", Cell(1, 1024), Site(tmp_path))
    new = server.new_directories()[0]
    new.mkdir(parents=True)
    (new / "short").write_bytes(b"x" * 900)
    with pytest.raises(RunFailedError, match="shorter"):
        workload.check(server, Cell(1, 1024))


def test_disk_alone_delivers_whole_messages(site: Site) -> None:
    needs.tool("cc", package="gcc")
    with running(DiskAlone(site.fresh("disk"), compiled("disk.c", site.root))) as server:
        assert isinstance(server, DiskAlone)
        server.deliver(Cell(4, 1024), 25)
        server.deliver(Cell(4, 1024), 25)
        files = list(server.new_directories()[0].iterdir())
    assert [file.stat().st_size for file in files] == [1024] * 50


def test_bare_server_stores_whole_messages(site: Site) -> None:
    needs.tool("cc", package="gcc")
    program = compiled("bare.c", site.root)
    text = "Subject: bare\r\n\r\n" + "x" * 1000
    with running(Bare(site.fresh("bare"), program, processes=2)) as server:

        def send(messages: int) -> None:
            with smtplib.SMTP("127.0.0.1", server.port, timeout=10) as client:
                for _ in range(messages):
                    client.sendmail("load@bench.test", "u@bench.test", text)

        # Together, so that one syncs for others, and enough for a file system to be synced.
        with ThreadPoolExecutor(16) as clients:
            list(clients.map(send, [5] * 16))
        maildir = server.new_directories()[0].parent
        stored = [path.read_text() for path in (maildir / "new").iterdir()]
        left = list((maildir / "tmp").iterdir())
    assert len(stored) == 80
    assert all(each.endswith(text.replace("\r\n", "\n") + "\n") for each in stored)
    assert left == []
