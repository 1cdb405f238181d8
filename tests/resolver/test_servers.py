from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pfsmtp.resolver.servers import NameServer, SystemServers


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("127.0.0.1:5353", "127.0.0.1", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
        ("[::1]", "::1", 53),
        ("[::1]:5353", "::1", 5353),
    ],
)
def test_address_and_port_are_read(text: str, host: str, port: int) -> None:
    assert NameServer.parse(text) == NameServer(host, port)


@pytest.mark.parametrize("text", ["", "dns.example.org", "127.0.0.1:", "127.0.0.1:0", "[::1]53"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        NameServer.parse(text)


def test_family_is_that_of_the_address() -> None:
    assert NameServer("::1").family is socket.AF_INET6
    assert NameServer("127.0.0.1").family is socket.AF_INET


def test_system_servers_are_those_of_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# nameserver 192.0.2.9\nsearch example.org\nnameserver 192.0.2.1\n"
        "nameserver\nnameserver rubbish\nnameserver fe80::1%lo\n"
    )
    assert SystemServers(file)() == (NameServer("192.0.2.1"), NameServer("fe80::1%lo"))


def test_changed_resolv_conf_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    servers = SystemServers(file)
    servers()
    file.write_text("nameserver 192.0.2.2\n")
    os.utime(file, ns=(1, 1))
    assert servers() == (NameServer("192.0.2.2"),)


def test_without_resolv_conf_this_machine_is_asked(tmp_path: Path) -> None:
    assert SystemServers(tmp_path / "missing")() == (NameServer("127.0.0.1"),)
