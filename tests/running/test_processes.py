"""The processes of a running server: reload, drain, what is killed, what is left behind."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.certificates import make_pair
from tests.running.program import USERS, Program, Talk, eventually, free_port

MESSAGE = b"Subject: a\r\n\r\nb\r\n"


def deliver(port: int, recipient: str = "alice@example.org") -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("sender@example.net", [recipient], MESSAGE)


def test_p4_term_ends_an_open_message_and_then_the_server(tmp_path: Path) -> None:
    server = Program.inbound(tmp_path)
    with server, Talk(server.port) as client, Talk(server.port) as idle:
        idle.hear()
        client.begin()
        client.send(b"Subject: begun\r\n")
        server.signal(signal.SIGTERM)
        assert idle.hear().startswith("421 4.3.2")
        assert idle.closed()
        assert client.say(b"\r\nended\r\n.").startswith("250 2.0.0")
        assert client.hear().startswith("421 4.3.2")
        assert client.closed()
        assert server.wait() == 0
        assert len(server.stored("alice")) == 1
        assert server.stored("alice")[0].endswith(b"Subject: begun\n\nended\n")
        assert server.leftovers() == []


def test_int_leaves_nothing_behind(tmp_path: Path) -> None:
    shared = set(os.listdir("/dev/shm"))
    with Program.inbound(tmp_path) as server:
        workers = server.workers()
        assert len(workers) == 2
        deliver(server.port)
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert set(os.listdir("/dev/shm")) <= shared
        assert "Traceback" not in server.errors.read_text()


def test_p1_killed_worker_costs_its_own_sessions_and_is_replaced_within_a_second(
    inbound: Program,
) -> None:
    with Talk(inbound.port) as client:
        client.hear()
        before = inbound.workers()
        started = time.monotonic()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert client.closed()
        deliver(inbound.port)
        assert time.monotonic() - started < 5
        eventually(lambda: len(inbound.workers()) == 2)
        assert not set(before) & set(inbound.workers())


def test_p2_killed_master_takes_its_workers_along_and_a_restart_binds_at_once(
    tmp_path: Path,
) -> None:
    server = Program.inbound(tmp_path)
    with server:
        workers = server.workers()
        with Talk(server.port) as client:
            client.begin()
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            assert client.say(b"text\r\n.").startswith("250")
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        server.start()
        deliver(server.port)
        assert len(server.stored("alice")) == 2


def test_p3_reload_under_load_refuses_no_connection_and_loses_no_message(
    inbound: Program,
) -> None:
    stop = threading.Event()
    sent, failures = [0, 0, 0, 0], list[Exception]()

    def load(index: int) -> None:
        while not stop.is_set():
            try:
                deliver(inbound.port)
                sent[index] += 1
            except smtplib.SMTPResponseException as error:
                # A session that a reload ends before its transaction: the client comes again.
                if error.smtp_code != 421:
                    failures.append(error)
            except (smtplib.SMTPException, OSError) as error:
                failures.append(error)

    threads = [threading.Thread(target=load, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            inbound.signal(signal.SIGHUP)
            time.sleep(0.1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert sum(sent) > 0
    assert len(inbound.stored("alice")) >= sum(sent)
    assert len(inbound.events("generation-ready")) > 1


def test_p3_nobody_who_comes_while_a_reload_goes_on_is_left_waiting(inbound: Program) -> None:
    for generation in range(2, 7):
        inbound.signal(signal.SIGHUP)
        inbound.await_event("generation-ready", count=generation)
        # The old workers let go of the listeners just now, and nobody else comes along.
        with Talk(inbound.port) as client:
            client.socket.settimeout(5)
            assert client.hear().startswith("220")


def test_reload_takes_the_new_users_and_a_faulty_file_keeps_the_old(inbound: Program) -> None:
    users = inbound.directory / "users"
    users.write_text(users.read_text() + "carol : carol@example.org\n")
    inbound.reload()
    deliver(inbound.port, "carol@example.org")
    failed = inbound.refuse_reload(users, b"carol carol@example.org\n")
    assert str(users) in failed["reason"]
    deliver(inbound.port, "carol@example.org")
    assert len(inbound.stored("carol")) == 2


@pytest.mark.parametrize("name", ["pfsmtp.toml", "users", "tls/cert.pem", "tls/key.pem"])
def test_p3_faulty_file_keeps_the_old_generation_until_it_is_mended(
    inbound: Program, name: str
) -> None:
    file = inbound.directory / name
    good = file.read_bytes()
    workers = inbound.workers()
    other = make_pair(inbound.directory, "other", ["mx.example.org"])
    # Without a certificate there would be a new one, of our own making.
    last = other.certificate.read_bytes() if name == "tls/cert.pem" else None
    for faulty in (b"garbage", last):
        failed = inbound.refuse_reload(file, faulty)
        assert str(file) in failed["reason"]
        with Talk(inbound.port) as client:
            client.start_tls()
            client.hello()
            client.envelope()
            assert client.say("Subject: as ever\r\n.").startswith("250")
    assert inbound.workers() == workers
    file.write_bytes(good)
    inbound.reload()
    deliver(inbound.port)


def test_reload_binds_a_new_address_and_lets_go_of_an_old_one(inbound: Program) -> None:
    old, new = inbound.port, free_port()
    inbound.reconfigure(listen={"smtp": [f"127.0.0.1:{new}"], "smtps": []})
    inbound.signal(signal.SIGHUP)
    inbound.await_event("generation-ready", count=2)
    deliver(new)

    def refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", old), timeout=1).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(refused)


def test_more_and_fewer_workers_by_signal(inbound: Program) -> None:
    inbound.signal(signal.SIGTTIN)
    eventually(lambda: len(inbound.workers()) == 3)
    inbound.signal(signal.SIGTTOU)
    eventually(lambda: len(inbound.workers()) == 2)
    deliver(inbound.port)


def test_rotated_log_goes_on_in_a_new_file(inbound: Program) -> None:
    deliver(inbound.port)
    inbound.await_event("message-accepted")
    inbound.log.rename(inbound.log.with_suffix(".1"))
    inbound.signal(signal.SIGUSR1)
    eventually(inbound.log.exists)
    deliver(inbound.port)
    inbound.await_event("message-accepted")


def test_port_that_is_taken_is_named_with_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = Program.inbound(tmp_path, listen={"smtp": [f"127.0.0.1:{port}"]})
        server.start(ready=False)
        assert server.wait() == 1
    said = server.errors.read_text()
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "ss -ltnp" in said
    assert "Traceback" not in said


def test_faulty_configuration_is_named_with_file_key_and_remedy(tmp_path: Path) -> None:
    server = Program.inbound(tmp_path, limits={"message_size": "fifty"})
    server.start(ready=False)
    assert server.wait() == 1
    said = server.errors.read_text()
    assert str(server.config) in said
    assert "message_size" in said
    assert "50 MiB" in said


def test_users_of_the_harness_are_those_of_the_map(inbound: Program) -> None:
    for login, addresses in USERS.items():
        for address in addresses:
            deliver(inbound.port, address if address[0] != "@" else f"any{address}")
        assert len(inbound.stored(login)) == len(addresses)


def test_workers_of_a_server_started_by_root_are_those_of_the_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    tmp_path.chmod(0o755)
    mail = tmp_path / "mail"
    mail.mkdir()
    os.chown(mail, 65534, 65534)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    with Program.inbound(tmp_path, user="nobody", group="nogroup") as server:
        for pid in server.workers():
            status = Path(f"/proc/{pid}/status").read_text()
            assert "Uid:\t65534\t65534\t65534\t65534" in status
            assert "NoNewPrivs:\t1" in status
        deliver(server.port)
        (path,) = (mail / "alice" / "new").iterdir()
        assert path.stat().st_uid == 65534
        assert path.stat().st_mode & 0o777 == 0o600


def test_first_worker_goes_first_while_each_connection_brings_a_small_message(
    inbound: Program,
) -> None:
    def went_first() -> bool:
        for _ in range(20):
            deliver(inbound.port)
        # Of the last ones, the end may not have been logged yet.
        return {event["worker"] for event in inbound.events("connection")[-15:-5]} == {1}

    # When the core is full meanwhile, its worker goes first again after half a minute.
    eventually(went_first, within=100)


def test_without_cores_of_their_own_workers_take_turns(tmp_path: Path) -> None:
    with Program.inbound(tmp_path, workers={"pin": False}) as server:
        for _ in range(60):
            deliver(server.port)
        ended = server.await_event("connection", count=60)
        assert {event["worker"] for event in ended[-20:]} == {1, 2}
