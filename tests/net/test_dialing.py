"""Connections in the making."""

from __future__ import annotations

import errno
import socket

import pytest

from pfsmtp.net.dialing import Dialed, Dialing
from tests.delivery.hosts import BlackHole


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def wait(dialing: Dialing) -> Dialed:
    dialed = dialing.wait(10)
    assert dialed is not None
    if dialed.socket is not None:
        dialed.socket.close()
    return dialed


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_connection_comes_about(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.create_server((address, 0), family=family) as listener,
        Dialing(listener.getsockname()[1]) as dialing,
    ):
        dialing.start(address)
        assert dialing.pending == [address]
        dialed = wait(dialing)
        assert dialing.pending == []
    assert dialed.address == address
    assert dialed.error is None


def test_refusal() -> None:
    with Dialing(free_port()) as dialing:
        dialing.start("127.0.0.1")
        dialed = wait(dialing)
    assert dialed.socket is None
    assert isinstance(dialed.error, OSError)
    assert (dialed.error.errno, dialed.error.strerror) == (
        errno.ECONNREFUSED,
        "Connection refused",
    )


def test_address_that_cannot_even_be_tried() -> None:
    with Dialing(25) as dialing:
        dialing.start("255.255.255.255")
        dialed = wait(dialing)
    assert dialed.socket is None
    assert dialed.error is not None
    assert dialing.pending == []


def test_connection_that_breaks_as_it_is_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(socket.socket):
        def setsockopt(self, *_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr("pfsmtp.net.dialing.socket.socket", Broken)
        with Dialing(listener.getsockname()[1]) as dialing:
            dialing.start("127.0.0.1")
            dialed = wait(dialing)
            assert dialing.pending == []
    assert dialed.socket is None
    assert dialed.error is not None
    assert dialed.error.errno == errno.EIO


def test_connection_sends_at_once_and_blocks() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Dialing(listener.getsockname()[1]) as dialing,
    ):
        dialing.start("127.0.0.1")
        dialed = dialing.wait(10)
        assert dialed is not None
        assert dialed.socket is not None
        with dialed.socket as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getblocking()


def test_first_that_answers_of_several() -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
        with BlackHole("127.0.0.1", port), Dialing(port) as dialing:
            dialing.start("127.0.0.1")
            assert dialing.wait(0.01) is None
            dialing.start("127.0.0.2")
            assert wait(dialing).address == "127.0.0.2"
            assert dialing.pending == ["127.0.0.1"]
            dialing.give_up("127.0.0.1")
            dialing.give_up("127.0.0.1")
            assert dialing.pending == []


def test_nothing_is_waited_for_when_nothing_is_tried() -> None:
    with Dialing(25) as dialing:
        assert dialing.wait(10) is None


def test_no_socket_is_an_error_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with Dialing(25) as dialing:
        monkeypatch.setattr("pfsmtp.net.dialing.socket.socket", none_left)
        with pytest.raises(OSError, match="Too many open files"):
            dialing.start("127.0.0.1")
        monkeypatch.undo()


def test_address_family_that_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    with Dialing(25) as dialing:
        monkeypatch.setattr("pfsmtp.net.dialing.socket.socket", lacking)
        dialing.start("::1")
        monkeypatch.undo()
        assert wait(dialing).address == "::1"
