"""Start, stop and signals of a master with real workers."""

from __future__ import annotations

import json
import os
import pwd
import socket
import time
from pathlib import Path

import pytest

from pfsmtp.process.errors import BOOT_FAILED, LOAD_FAILED
from tests.process.running import eventually, running, title


def test_serves_once_ready(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.ready()
        assert service.ask("hello") == "hello"


def test_workers_answer_in_every_role(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, helpers=1) as service:
        service.ready()
        names = {event["worker"] for event in service.seen("worker-ready")}
        assert names == {"echo 1", "echo 2", "helper 1"}


def test_master_prepares_a_role_while_those_before_it_serve(tmp_path: Path) -> None:
    with running(tmp_path, workers=1, helpers=2) as service:
        service.ready()
        prepared = service.seen("prepared")
    assert [event["answer"] for event in prepared] == ["echo 1 generation 1\n"] * 2
    assert [event["from"] for event in prepared] == [service.master] * 2


def test_ps_shows_role_generation_and_what_the_body_says(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as service:
        service.ready()
        service.ask("hello")
        worker = service.workers()["echo 1 generation 1"]
        assert title(service.master) == "pfsmtp: master [echo] generation 1"
        eventually(lambda: title(worker) == "pfsmtp: echo 1 generation 1 1 lines")


def test_start_stops_when_the_service_cannot_load(tmp_path: Path) -> None:
    with running(tmp_path, load="error") as service:
        assert service.wait() == LOAD_FAILED
        assert service.wait_for("start-failed")["reason"].endswith("wrong: mend it")
        assert "wrong: mend it" in service.wait_for_silence()


def test_start_stops_when_loading_has_a_bug(tmp_path: Path) -> None:
    with running(tmp_path, load="bug") as service:
        assert service.wait() == LOAD_FAILED
        assert "ZeroDivisionError" in service.wait_for("service-bug")["trace"]


@pytest.mark.parametrize(
    ("boot", "reason"),
    [
        ("refuse", "echo 1 cannot start: no room at the inn"),
        ("bug", "echo 1 cannot start: bug: ZeroDivisionError('bad arithmetic')"),
        ("die", "echo 1 keeps dying, last with signal 9"),
    ],
)
def test_start_stops_when_a_worker_cannot_start(tmp_path: Path, boot: str, reason: str) -> None:
    with running(tmp_path, workers=1, boot=boot) as service:
        assert service.wait() == BOOT_FAILED
        assert service.wait_for("start-failed")["reason"] == reason
        assert reason in service.wait_for_silence()


def test_start_is_not_tried_again_when_a_worker_refuses(tmp_path: Path) -> None:
    with running(tmp_path, workers=1, boot="refuse") as service:
        service.wait()
        assert len(service.seen("worker-refused")) == 1


def test_start_stops_when_workers_do_not_get_ready(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "boot": 0.3, "quit": 0.1}
    with running(tmp_path, boot="hang", timing=timing) as service:
        assert service.wait() == BOOT_FAILED
        assert service.wait_for("start-failed")["reason"] == "not ready within 0.3 s"
        service.wait_for_silence()


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_term_and_int_finish_what_has_been_begun(tmp_path: Path, name: str) -> None:
    with running(tmp_path) as service:
        service.ready()
        with service.connect() as busy, service.connect() as idle:
            assert busy.ask("begin") == "begin"
            assert idle.ask("hello") == "hello"
            service.signal(name)
            assert idle.closed()
            assert busy.ask("end") == "end"
        assert service.wait() == 0
        service.wait_for_silence()


def test_term_closes_the_listener_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.ready()
        with service.connect() as busy:
            busy.ask("begin")
            service.signal("TERM")
            service.wait_for("generation-closed")


def test_term_is_bounded(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "stop": 0.2, "quit": 1.0}
    with running(tmp_path, timing=timing) as service:
        service.ready()
        with service.connect() as busy:
            busy.ask("begin")
            service.signal("TERM")
            assert service.wait() == 0
        service.wait_for("stopped")
        service.wait_for_silence()


def test_second_term_stops_now(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.ready()
        with service.connect() as busy:
            busy.ask("begin")
            service.signal("TERM")
            service.wait_for("stopping")
            service.signal("TERM")
            assert service.wait() == 0
        service.wait_for("stopped", times=1)
        service.wait_for_silence()


def test_quit_stops_now(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.ready()
        with service.connect() as busy:
            busy.ask("begin")
            service.signal("QUIT")
            assert service.wait() == 0
        service.wait_for_silence()


def test_quit_kills_who_does_not_listen(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "quit": 0.2}
    with running(tmp_path, timing=timing) as service:
        service.ready()
        service.ask("hang")
        service.wait_for("hanging")
        service.signal("QUIT")
        assert service.wait() == 0
        service.wait_for("worker-left", exit="signal 9")
        service.wait_for_silence()


def test_term_to_the_whole_process_group_is_like_term(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.ready()
        with service.connect() as busy:
            busy.ask("begin")
            os.killpg(service.master, 15)
            service.wait_for("stopping")
            assert busy.ask("end") == "end"
        assert service.wait() == 0


def test_workers_leave_what_a_terminal_sends_to_the_master(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as service:
        service.ready()
        worker = service.workers()["echo 1 generation 1"]
        for name in ("HUP", "INT", "TTIN", "TTOU", "USR2"):
            service.signal(name, worker)
        assert service.ask("pid") == str(worker)
        assert not service.seen("worker-died")


def test_usr1_reopens_the_logs_in_all_processes(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as service:
        service.ready()
        service.signal("USR1")
        for pid in (service.master, *service.workers().values()):
            service.wait_for("reopened", **{"from": pid})


def test_ttin_and_ttou_change_how_many_work(tmp_path: Path) -> None:
    with running(tmp_path, workers=1, helpers=1) as service:
        service.ready()
        service.signal("TTIN")
        added = service.wait_for("worker-ready", worker="echo 2")["pid"]
        service.signal("TTOU")
        assert service.wait_for("worker-left", worker="echo 2")["pid"] == added
        assert service.seen("workers-wanted") == [
            {"event": "workers-wanted", "from": service.master, "count": 2},
            {"event": "workers-wanted", "from": service.master, "count": 1},
        ]
        assert set(service.workers()) == {"echo 1 generation 1", "helper 1 generation 1"}


def test_ttou_keeps_the_last_worker(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as service:
        service.ready()
        service.signal("TTOU")
        assert service.wait_for("workers-wanted")["count"] == 1
        assert service.ask("who") == "echo 1 generation 1"


def test_worker_inherits_nothing_of_the_master_or_of_others(tmp_path: Path) -> None:
    with running(tmp_path, workers=3) as service:
        service.ready()
        seen: dict[str, list[str]] = {}
        while len(seen) < 3:
            with service.connect() as client:
                who = client.ask("who")
                kinds = sorted(
                    what.partition(":")[0]
                    for fd, what in json.loads(client.ask("descriptors")).items()
                    if int(fd) > 2
                )
                seen[who] = kinds
        # Life, its signals (2), its own waking (2); the listener and this connection.
        assert set(map(tuple, seen.values())) == {("pipe",) * 5 + ("socket",) * 2}


def test_worker_can_gain_no_privileges(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.ready()
        assert "NoNewPrivs:\t1" in json.loads(service.ask("privileges"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_worker_runs_as_the_user_of_its_generation(tmp_path: Path) -> None:
    with running(tmp_path, user="nobody") as service:
        service.ready()
        user = pwd.getpwnam("nobody")
        status = json.loads(service.ask("privileges")).splitlines()
        assert f"Uid:\t{user.pw_uid}\t{user.pw_uid}\t{user.pw_uid}\t{user.pw_uid}" in status
        assert f"Gid:\t{user.pw_gid}\t{user.pw_gid}\t{user.pw_gid}\t{user.pw_gid}" in status
        groups = next(line for line in status if line.startswith("Groups:"))
        assert "0" not in groups.split()


def test_nothing_is_left_in_shared_memory(tmp_path: Path) -> None:
    before = set(os.listdir("/dev/shm"))
    with running(tmp_path) as service:
        service.ready()
        service.ask("number")
        assert set(os.listdir("/dev/shm")) == before
        service.signal("KILL")
        service.wait_for_silence()
    assert set(os.listdir("/dev/shm")) == before


def test_start_is_quick(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, timing={}) as service:
        assert service.ready()["seconds"] < 0.1


def test_idle_processes_use_next_to_no_processor_time(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, timing={"beat": 0.01}) as service:
        service.ready()
        pids = (service.master, *service.workers().values())
        before = {pid: _processor_seconds(pid) for pid in pids}
        begun = time.monotonic()
        eventually(lambda: time.monotonic() > begun + 1.0)
        used = sum(_processor_seconds(pid) - before[pid] for pid in pids)
        # A hundred rounds, as in a hundred seconds of the real pace.
        assert used / len(pids) / 100 < 0.001


def test_notifies_the_service_manager(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        with running(tmp_path, load="error") as service:
            service.wait()
            service.configure(load="")
            service.start(environment={"NOTIFY_SOCKET": str(address)})
            ready = manager.recv(4096).decode().splitlines()
            assert ready == ["READY=1", f"MAINPID={service.master}", "STATUS=generation 1"]
            service.signal("HUP")
            assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(4096).endswith(b"STATUS=generation 2")
            service.configure(load="error")
            service.signal("HUP")
            assert manager.recv(4096).startswith(b"RELOADING=1")
            assert b"generation 2; reload failed: the conf" in manager.recv(4096)
            service.signal("TERM")
            assert manager.recv(4096).startswith(b"STOPPING=1")


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
