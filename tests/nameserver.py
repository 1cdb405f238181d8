"""Name servers for tests: a real one (Knot DNS) with given zones, and a scripted one.

`NameServer` speaks the DNS as it is; `ScriptedServer` does what no decent server does.
Both listen on loopback, at a port of their own; `address` is what a configuration takes.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.needs import lacking

_START = 15.0  # seconds

_CONFIG = """\
server:
    listen: [ {host}@{port} ]
    rundir: "{rundir}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{directory}"
    journal-db-max-size: 1M
    kasp-db-max-size: 5M
    timer-db-max-size: 1M
    catalog-db-max-size: 5M
log:
  - target: stderr
    any: info
template:
  - id: default
    storage: "{directory}"
    zonefile-sync: -1
    journal-content: none
    semantic-checks: soft
zone:
{zones}
"""

_APEX = """\
$ORIGIN {domain}.
$TTL 300
@ SOA ns.{domain}. hostmaster.{domain}. 1 3600 600 86400 60
@ NS ns.{domain}.
ns A 127.0.0.1
"""


def require_knot() -> str:
    """Return the path of knotd; without it the test is skipped, but fails where CI is set."""
    found = shutil.which("knotd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        lacking("needs knotd (apt install knot)")
    return found


class NameServer:
    """Knot DNS, authoritative for `zones`: domain to zone text, without SOA and NS (TTL 300).

    Everything else is refused, as by any server that is not responsible.
    """

    def __init__(self, directory: Path, zones: Mapping[str, str], host: str = "127.0.0.1") -> None:
        self._directory = directory
        self._zones = zones
        self._host = host
        self.port = 0

    @property
    def address(self) -> str:
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    def __enter__(self) -> Self:
        knotd = require_knot()
        self._rundir = tempfile.TemporaryDirectory(prefix="knot-")
        deadline = time.monotonic() + _START
        while not self._start(knotd, deadline):
            if time.monotonic() >= deadline:
                self._rundir.cleanup()
                pytest.fail((self._directory / "knotd.log").read_text())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        self._rundir.cleanup()

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _start(self, knotd: str, deadline: float) -> bool:
        """Start it on a free port; False when somebody else took the port first."""
        self.port = free_port(self._host)
        config = self._write_config()
        with (self._directory / "knotd.log").open("w") as log:
            self._process = subprocess.Popen([knotd, "-c", str(config)], stdout=log, stderr=log)
        while time.monotonic() < deadline and self._process.poll() is None:
            if all(self._serves(domain) for domain in self._zones):
                return True
        self._stop()
        return False

    def _write_config(self) -> Path:
        zones = []
        for domain, text in self._zones.items():
            file = self._directory / f"{domain}.zone"
            file.write_text(_APEX.format(domain=domain) + text)
            zones.append(f'  - domain: {domain}.\n    file: "{file}"')
        config = self._directory / "knot.conf"
        config.write_text(
            _CONFIG.format(
                host=self._host,
                port=self.port,
                directory=self._directory,
                rundir=self._rundir.name,  # a short path: the control socket is bound there
                zones="\n".join(zones),
            )
        )
        return config

    def _serves(self, domain: str) -> bool:
        query = dns.message.make_query(domain, "SOA")
        try:
            reply = dns.query.udp(query, self._host, 0.2, self.port, ignore_errors=True)
        except (dns.exception.Timeout, OSError):
            return False
        return reply.rcode() == dns.rcode.NOERROR and bool(reply.flags & dns.flags.AA)


Transport = Literal["udp", "tcp"]
Answers = dns.message.Message | bytes | None | list[dns.message.Message]
Script = Callable[[dns.message.Message, Transport], Answers]
"""What to answer to a query: octets go out as they are, a list one after the other, None not."""


class ScriptedServer:
    """Answers over UDP and TCP as its script says; `asked` lists what it was asked."""

    def __init__(self, script: Script, host: str = "127.0.0.1") -> None:
        self._script = script
        self._host = host
        self.asked: list[tuple[str, str, Transport]] = []

    @property
    def address(self) -> str:
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    def __enter__(self) -> Self:
        self.port = free_port(self._host)
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind((self._host, self.port))
        self._tcp = socket.create_server((self._host, self.port), family=family)
        self._threads = [
            threading.Thread(target=serve) for serve in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with socket.socket(self._udp.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._udp.getsockname()[:2])
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            wire, client = self._udp.recvfrom(65535)
            if not wire:
                return
            for answer in self._answers(wire, "udp"):
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                head = stream.read(2)
                if len(head) == 2:
                    for answer in self._answers(stream.read(*struct.unpack("!H", head)), "tcp"):
                        connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answers(self, wire: bytes, transport: Transport) -> list[bytes]:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype), transport))
        match self._script(query, transport):
            case None:
                return []
            case bytes() as octets:
                return [octets]
            case list() as messages:
                return [message.to_wire(max_size=65535) for message in messages]
            case message:
                return [message.to_wire(max_size=65535)]


def reply_to(query: dns.message.Message, *records: str, aa: bool = True) -> dns.message.Message:
    """Return an answer with these records (`name ttl type data`) to be changed at will."""
    reply = dns.message.make_response(query)
    if aa:
        reply.flags |= dns.flags.AA
    for record in records:
        add_record(reply, record)
    return reply


def add_record(reply: dns.message.Message, record: str) -> None:
    """Add one record to the answer, to those of the same name and type if there are any."""
    owner, ttl, rdtype, data = record.split(None, 3)
    rrset = dns.rrset.from_text(owner, int(ttl), "IN", rdtype, data)
    known = reply.find_rrset(reply.answer, rrset.name, rrset.rdclass, rrset.rdtype, create=True)
    for record_data in rrset:
        known.add(record_data, rrset.ttl)


def free_port(host: str) -> int:
    """Return a port on which neither UDP nor TCP is bound just now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
            tcp.bind((host, 0))
            port: int = tcp.getsockname()[1]
            try:
                udp.bind((host, port))
            except OSError:
                continue
            return port
