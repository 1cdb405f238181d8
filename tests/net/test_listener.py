"""Listening sockets: what is bound, and what is said when it cannot be."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from pfsmtp.config import Address
from pfsmtp.net.listener import BindError, bind, bind_local, remove_local


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


# -- sockets for the programs of this machine


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        return client.connect_ex(str(path)) == 0


def test_every_user_may_connect_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        listener = bind_local(tmp_path / "socket")
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o666
    assert listener.local
    assert connects(tmp_path / "socket")
    listener.close()


def test_a_socket_that_a_dead_server_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    bind_local(path).close()
    assert not connects(path)
    listener = bind_local(path)
    assert connects(path)
    listener.close()


def test_a_socket_that_somebody_listens_at_is_left_to_him(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = bind_local(path)
    with pytest.raises(BindError, match="another program listens there"):
        bind_local(path)
    assert connects(path)
    first.close()


def test_a_socket_of_another_kind_that_somebody_listens_at_is_left_to_him(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(BindError, match="another program listens there"):
            bind_local(path)
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    with pytest.raises(BindError, match="it is no socket"):
        bind_local(path)
    assert path.read_text() == "precious"


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BindError, match=r"no such directory.* sendmail"):
        bind_local(tmp_path / "none" / "socket")


def test_removing_a_socket_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    remove_local(tmp_path / "socket")
