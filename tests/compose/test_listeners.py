"""Listeners of all generations: shared, bound once, closed when nobody needs them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pfsmtp.compose.listeners import Listeners
from pfsmtp.config import Address, Listen
from pfsmtp.net.listener import BindError
from pfsmtp.process.systemd import InheritedDescriptor
from tests.running.program import free_port


def listen(*ports: int, smtps: tuple[int, ...] = ()) -> Listen:
    return Listen(
        smtp=tuple(Address.parse(f"127.0.0.1:{port}") for port in ports),
        smtps=tuple(Address.parse(f"127.0.0.1:{port}") for port in smtps),
    )


def is_bound(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_generations_share_what_both_want_and_the_rest_is_closed() -> None:
    first, second = free_port(), free_port()
    listeners = Listeners([])
    old = listeners.take(listen(first, second))
    new = listeners.take(listen(second))
    assert old[1] is new[0]
    listeners.give_back(old)
    assert not is_bound(first)
    assert is_bound(second)
    listeners.give_back(new)
    assert not is_bound(second)


def test_failure_to_bind_one_binds_none() -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(BindError):
            Listeners([]).take(listen(free, other.getsockname()[1]))
        assert not is_bound(free)


def test_socket_that_systemd_passed_is_taken_for_the_address_it_is_bound_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        listeners = Listeners([InheritedDescriptor(passed.fileno(), "smtp")])
        taken = listeners.take(listen(port))
        assert [listener.socket.getsockname()[1] for listener in taken] == [port]
        listeners.give_back(taken)
        assert is_bound(port), "the passed one stays open, to be taken again"


def test_socket_that_no_address_names_is_listened_on_with_tls_if_its_unit_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        listeners = Listeners([InheritedDescriptor(passed.fileno(), "smtps")])
        taken = listeners.take(listen(free_port()))
        assert [listener.implicit_tls for listener in taken] == [False, True]
        listeners.give_back(taken)


def test_socket_for_programs_lives_as_long_as_a_generation_wants_it(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    port = free_port()
    listeners = Listeners([])
    first = listeners.take(listen(port), one)
    second = listeners.take(listen(port), one)
    assert [listener.local for listener in second] == [False, True]
    assert first[1] is second[1]
    listeners.give_back(first)
    assert one.is_socket()
    third = listeners.take(listen(port), other)
    listeners.give_back(second)
    assert not one.exists()
    assert other.is_socket()
    listeners.give_back(third)
    assert not other.exists()


def test_failure_to_bind_leaves_no_socket_for_programs(tmp_path: Path) -> None:
    listeners = Listeners([])
    taken = listeners.take(listen(), tmp_path / "one")
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(BindError):
            listeners.take(listen(other.getsockname()[1]), tmp_path / "one")
        with pytest.raises(BindError):
            listeners.take(listen(), tmp_path / "none" / "two")
    assert (tmp_path / "one").is_socket()
    listeners.give_back(taken)


def listening(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A socket as systemd opens it."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_socket_for_programs_that_systemd_passed_is_taken_and_its_file_left(
    tmp_path: Path,
) -> None:
    path = tmp_path / "one"
    with listening(path, socket.SOCK_SEQPACKET) as passed:
        listeners = Listeners([InheritedDescriptor(passed.fileno(), "sendmail")])
        for _ in range(2):
            taken = listeners.take(listen(), path)
            assert [(each.socket.getsockname(), each.local) for each in taken] == [
                (str(path), True)
            ]
            listeners.give_back(taken)
            assert path.is_socket()


@pytest.mark.parametrize("local", [None, "other"])
def test_socket_for_programs_that_is_passed_has_to_be_the_configured_one(
    tmp_path: Path, local: str | None
) -> None:
    with listening(tmp_path / "one", socket.SOCK_SEQPACKET) as passed:
        listeners = Listeners([InheritedDescriptor(passed.fileno(), "sendmail")])
        with pytest.raises(BindError, match="/one, which is not"):
            listeners.take(listen(), tmp_path / local if local else None)
        assert not (tmp_path / "other").exists()


def test_socket_for_programs_that_is_passed_has_to_keep_messages_apart(tmp_path: Path) -> None:
    with listening(tmp_path / "one", socket.SOCK_STREAM) as passed:
        listeners = Listeners([InheritedDescriptor(passed.fileno(), "sendmail")])
        with pytest.raises(BindError, match="ListenSequentialPacket="):
            listeners.take(listen(), tmp_path / "one")


def test_worker_keeps_the_socket_in_its_place_when_it_closes_its_own(tmp_path: Path) -> None:
    listeners = Listeners([])
    taken = listeners.take(listen(), tmp_path / "one")
    listeners.keep_only([])
    assert (tmp_path / "one").is_socket()
    listeners.give_back(taken)


def test_worker_keeps_only_its_own() -> None:
    first, second = free_port(), free_port()
    listeners = Listeners([])
    old = listeners.take(listen(first))
    new = listeners.take(listen(second))
    listeners.keep_only(new)
    assert not is_bound(first)
    assert is_bound(second)
    listeners.give_back(old)
    listeners.give_back(new)
