"""The servers as relays, and what they relay to: smtp-sink, and a name server that leads there.

Mail for `d0.bench.test` … `d99.bench.test` goes to a host for each domain, with an address of its
own (127.1.0.1 …); one smtp-sink listens on all of them. pfsmtp finds the hosts by MX and A records
of a name server within the benchmark. Postfix is spared that: its relayhost, or for many domains
its transport map, names addresses, and look-ups are off.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from peers import DOMAIN, Pfsmtp, Postfix, free_port

LATER = f"later.{DOMAIN}"
"""A domain that the name server fails for: mail for it waits."""

_TTL = 3600
_COUNTED_AT_LEAST = 256  # octets of the end of smtp-sink's output, which holds its counters


def domains(count: int) -> list[str]:
    return [f"d{number}.{DOMAIN}" for number in range(count)]


def address_of(number: int) -> str:
    """Where the host of domain `number` listens."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


class Sink:
    """smtp-sink: takes mail and drops it, and counts."""

    def __init__(self, directory: Path) -> None:
        """Start it; its output goes to a file in this directory."""
        self.port = free_port()
        self._output = directory / "sink"
        command = ["smtp-sink", "-4", "-c", "-m", "1000", "-u", "nobody"]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                # All of 127.0.0.0/8 is only to be had as all addresses.
                [*command, f"0.0.0.0:{self.port}", "1000"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def count(self) -> int:
        """How many messages it has taken."""
        with self._output.open("rb") as output:
            end = output.seek(0, 2)
            output.seek(max(end - _COUNTED_AT_LEAST, 0))
            whole = output.read().rpartition(b"\r")[0]
        *_, counted = whole.rpartition(b"mesg=")
        return int(counted or 0)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class NameServer:
    """Answers for the domains of the benchmark: an MX each, with an address each."""

    def __init__(self) -> None:
        """Answer from a thread, until `stop`."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        # An empty datagram is no question.
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            octets, client = self._socket.recvfrom(4096)
            if not octets:
                return
            try:
                query = dns.message.from_wire(octets)
            except dns.exception.DNSException:
                continue
            self._socket.sendto(self._answer(query).to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        host, kind = name.partition(".")[0], question.rdtype
        record = None
        if kind == dns.rdatatype.MX and host.startswith("d"):
            record = f"10 mx{host[1:]}.{DOMAIN}."
        elif kind == dns.rdatatype.A and host.startswith("mx"):
            record = address_of(int(host[2:]))
        elif name == LATER:
            answer.set_rcode(dns.rcode.SERVFAIL)
        if record is not None:
            answer.answer.append(dns.rrset.from_text(question.name, _TTL, "IN", kind, record))
        return answer


class PfsmtpRelay(Pfsmtp):
    """This project's outbound server as it is shipped."""

    def __init__(
        self, directory: Path, certificate: tuple[Path, Path], *, command: str, settings: str
    ) -> None:
        super().__init__(directory, certificate, command=command, settings=settings)
        self.sink = Sink(directory)
        self._name_server = NameServer()

    def stop(self) -> None:
        super().stop()
        self.sink.stop()
        self._name_server.stop()

    def stop_program(self) -> None:
        """Stop pfsmtp alone, to be launched once more."""
        self._shut_down()

    def _delivery(self) -> str:
        return f"""role = "outbound"

[queue]
directory = "queue"

[relay]
port = {self.sink.port}
nameserver = ["127.0.0.1:{self._name_server.port}"]
loopback = true
"""


class PostfixRelay(Postfix):
    """Postfix, relaying with smtp(8)."""

    def __init__(
        self, directory: Path, certificate: tuple[Path, Path], *, destinations: Sequence[str]
    ) -> None:
        super().__init__(directory, certificate)
        self.sink = Sink(directory)
        self._destinations = destinations

    def stop(self) -> None:
        super().stop()
        self.sink.stop()

    def _delivery_settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "disable_dns_lookups": "yes",
            "relayhost": f"[{address_of(0)}]:{self.sink.port}",
        }
        if len(self._destinations) > 1:
            hosts = "".join(
                f"{domain} smtp:[{address_of(number)}]:{self.sink.port}\n"
                for number, domain in enumerate(self._destinations)
            )
            (self._conf / "transport").write_text(hosts)
            settings["transport_maps"] = f"texthash:{self._conf}/transport"
        return settings
