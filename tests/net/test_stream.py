"""A connection's octets with deadlines, on real sockets."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from pfsmtp.config import CertificatePair
from pfsmtp.log import Log
from pfsmtp.net.stream import NEVER, ClearStream, StreamLost, StreamTimeout, TLSStream
from pfsmtp.smtp.wire import Input
from pfsmtp.tls import ensure_self_signed, server_context
from tests.net.sockets import PATIENCE, connected

SOON = 0.05


@pytest.fixture
def wake() -> Iterator[int]:
    fd = os.eventfd(0)
    yield fd
    os.close(fd)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    directory = tmp_path_factory.mktemp("tls")
    pair = CertificatePair(certificate=directory / "cert.pem", key=directory / "key.pem")
    ensure_self_signed(pair.certificate, pair.key, hostname="mx.example.org")
    with open(os.devnull, "w") as null:
        return server_context([pair], Log(null.fileno()))


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def secured(
    fd: int, client: socket.socket, context: ssl.SSLContext
) -> tuple[TLSStream, ssl.SSLSocket]:
    """Both ends under TLS."""
    ends: list[ssl.SSLSocket] = []
    shaking = threading.Thread(
        target=lambda: ends.append(client_context().wrap_socket(client)), daemon=True
    )
    shaking.start()
    stream = ClearStream(fd).secure(context, PATIENCE)
    shaking.join(PATIENCE)
    return stream, ends[0]


def test_exchange_sends_and_receives_in_one_call() -> None:
    with connected() as (fd, client):
        stream, source = ClearStream(fd), Input()
        client.sendall(b"NOOP\r\n")
        assert stream.exchange(b"250 OK\r\n", source, PATIENCE, NEVER) == 6
        assert source.command(100) == (b"NOOP", b"")
        assert client.recv(100) == b"250 OK\r\n"
        stream.close()
        assert client.recv(100) == b""


def test_exchange_sees_the_peer_close() -> None:
    with connected() as (fd, client):
        stream = ClearStream(fd)
        client.shutdown(socket.SHUT_WR)
        assert stream.exchange(b"", Input(), PATIENCE, NEVER) == 0
        stream.close()


def test_silence_is_a_timeout_after_all_was_sent() -> None:
    with connected() as (fd, client):
        stream = ClearStream(fd)
        with pytest.raises(StreamTimeout):
            stream.exchange(b"220 x\r\n", Input(), SOON, NEVER)
        assert client.recv(100) == b"220 x\r\n"
        stream.close()


def test_wait_ends_when_the_wake_descriptor_can_be_read(wake: int) -> None:
    with connected() as (fd, _client):
        stream = ClearStream(fd)
        timer = threading.Timer(SOON, os.eventfd_write, (wake, 1))
        timer.start()
        assert stream.exchange(b"", Input(), PATIENCE, wake) == -1
        timer.join()
        stream.close()


def test_input_comes_before_the_wake_descriptor(wake: int) -> None:
    with connected() as (fd, client):
        stream = ClearStream(fd)
        os.eventfd_write(wake, 1)
        client.sendall(b"x")
        assert stream.is_readable(PATIENCE)
        assert stream.exchange(b"", Input(), PATIENCE, wake) == 1
        stream.close()


def test_peer_that_reads_nothing_is_lost_within_the_wait() -> None:
    with connected() as (fd, _client):
        stream = ClearStream(fd)
        with pytest.raises(StreamLost, match="does not read"):
            stream.send(b"x" * 50_000_000, SOON)
        stream.close()


def test_peer_that_resets_is_lost() -> None:
    with connected() as (fd, client):
        stream = ClearStream(fd)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        with pytest.raises(StreamLost, match="reset"):
            stream.exchange(b"", Input(), PATIENCE, NEVER)
        stream.close()


def test_close_says_last_words_to_who_still_sends_when_it_lingers() -> None:
    with connected() as (fd, client):
        stream = ClearStream(fd)
        client.sendall(b"x" * 10_000)
        closing = threading.Thread(
            target=lambda: stream.close(b"421 goodbye\r\n", linger=True), daemon=True
        )
        closing.start()
        assert client.recv(100) == b"421 goodbye\r\n"
        client.sendall(b"more")
        assert client.recv(100) == b""
        client.close()
        closing.join(PATIENCE)
        assert not closing.is_alive()


def test_close_twice_does_no_harm() -> None:
    with connected() as (fd, _client):
        stream = ClearStream(fd)
        stream.close()
        stream.close(b"late")


def test_tls_stream_exchanges_wakes_and_times_out(context: ssl.SSLContext, wake: int) -> None:
    with connected() as (fd, client):
        stream, end = secured(fd, client, context)
        with end:
            source = Input()
            end.sendall(b"NOOP\r\n")
            assert stream.exchange(b"250 OK\r\n", source, PATIENCE, wake) == 6
            assert end.recv(100) == b"250 OK\r\n"
            with pytest.raises(StreamTimeout):
                stream.exchange(b"", source, SOON, wake)
            os.eventfd_write(wake, 1)
            assert stream.exchange(b"", source, PATIENCE, wake) == -1
            stream.close(b"221 bye\r\n")
            assert end.recv(100) == b"221 bye\r\n"
            assert end.recv(100) == b""


def test_p5_tls_record_that_comes_octet_by_octet_has_one_budget(context: ssl.SSLContext) -> None:
    with connected() as (fd, client):
        stream, end = secured(fd, client, context)
        with end:
            stop = threading.Event()

            def drip() -> None:
                # The start of a long record.
                socket.socket.send(end, b"\x17\x03\x03\x40\x00")
                while not stop.wait(SOON / 4):
                    socket.socket.send(end, b"x")

            dripping = threading.Thread(target=drip, daemon=True)
            dripping.start()
            try:
                started = time.monotonic()
                with pytest.raises(StreamTimeout):
                    stream.exchange(b"", Input(), SOON, NEVER)
                assert time.monotonic() - started < PATIENCE / 2
            finally:
                stop.set()
                dripping.join(PATIENCE)
            stream.close()


def test_tls_stream_takes_what_openssl_holds_without_waiting(context: ssl.SSLContext) -> None:
    with connected() as (fd, client):
        stream, end = secured(fd, client, context)
        with end:
            source = Input()
            end.sendall(b"x" * 12_000)
            received = 0
            while received < 12_000:
                received += stream.exchange(b"", source, SOON, NEVER)
                source.clear()
            assert received == 12_000
            stream.close()


def test_tls_stream_sends_more_than_the_socket_takes_at_once(context: ssl.SSLContext) -> None:
    with connected() as (fd, client):
        stream, end = secured(fd, client, context)
        with end:
            sending = threading.Thread(
                target=lambda: stream.send(b"x" * 5_000_000, PATIENCE), daemon=True
            )
            sending.start()
            received = 0
            while received < 5_000_000:
                received += len(end.recv(65536))
            sending.join(PATIENCE)
            assert not sending.is_alive()
            stream.close()


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b""])
def test_handshake_that_is_none_ends_in_time(context: ssl.SSLContext, octets: bytes) -> None:
    with connected() as (fd, client):
        client.sendall(octets)
        with pytest.raises((StreamLost, StreamTimeout)):
            ClearStream(fd).secure(context, SOON)


def test_tls_peer_that_vanishes_without_close_notify_is_at_its_end(
    context: ssl.SSLContext,
) -> None:
    with connected() as (fd, client):
        stream, end = secured(fd, client, context)
        with end:
            end.sendall(b"Subject: cut o")
            socket.socket.shutdown(end, socket.SHUT_WR)
            source = Input()
            assert stream.exchange(b"", source, PATIENCE, NEVER) == 14
            assert stream.exchange(b"", source, PATIENCE, NEVER) == 0
            stream.close()
