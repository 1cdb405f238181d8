"""Listening sockets: what is bound, and what is said when it cannot be."""

from __future__ import annotations

import socket

import pytest

from pfsmtp.config import Address
from pfsmtp.net.listener import BindError, bind


def test_ipv4_and_ipv6_are_bound_to_the_same_port_side_by_side() -> None:
    four = bind(Address.parse("0.0.0.0:0"), implicit_tls=False)
    port = four.socket.getsockname()[1]
    six = bind(Address.parse(f"[::]:{port}"), implicit_tls=False)
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=5).close()
    four.close()
    six.close()


def test_accepted_connections_send_small_segments_at_once() -> None:
    listener = bind(Address.parse("127.0.0.1:0"), implicit_tls=True)
    assert listener.implicit_tls
    with socket.create_connection(listener.socket.getsockname(), timeout=5):
        accepted, _ = listener.socket.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    listener.close()


@pytest.mark.parametrize(
    ("address", "remedy"),
    [("192.0.2.1:25", "ip address"), ("[2001:db8::1]:25", "ip address")],
)
def test_address_that_this_machine_lacks_is_named_with_a_remedy(address: str, remedy: str) -> None:
    with pytest.raises(BindError, match=remedy) as error:
        bind(Address.parse(address), implicit_tls=False)
    assert address in str(error.value)


def test_port_that_is_taken_is_named_with_a_remedy() -> None:
    first = bind(Address.parse("127.0.0.1:0"), implicit_tls=False)
    port = first.socket.getsockname()[1]
    with pytest.raises(BindError, match=f"sport = :{port}"):
        bind(Address.parse(f"127.0.0.1:{port}"), implicit_tls=False)
    first.close()
