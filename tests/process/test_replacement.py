"""Workers that die, hang or cannot start, and the death of the master."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.process.running import eventually, running


def test_killed_worker_is_replaced_within_a_second(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, timing={}) as service:
        service.ready()
        killed = service.workers()["echo 1 generation 1"]
        begun = time.monotonic()
        service.signal("KILL", killed)
        service.wait_for("worker-died", pid=killed, worker="echo 1", exit="signal 9")
        service.wait_for("told-of-death", pid=killed, killed=True)
        service.wait_for("worker-ready", worker="echo 1", times=2)
        assert time.monotonic() - begun < 1.0


def test_killed_worker_costs_its_own_sessions_only(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as service:
        service.ready()
        clients = [service.connect() for _ in range(2)]
        while len({client.ask("pid") for client in clients}) < 2:
            clients.append(service.connect())
        killed = int(clients[0].ask("pid"))
        others = [client for client in clients if client.ask("pid") != str(killed)]
        service.signal("KILL", killed)
        service.wait_for("worker-died", pid=killed)
        assert all(client.ask("hello") == "hello" for client in others)
        assert service.ask("hello") == "hello"
        for client in clients:
            client.close()


def test_worker_that_is_killed_every_second_is_replaced_at_once_every_time(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "steady": 0.0, "backoff": 60.0, "backoff_limit": 60.0}
    with running(tmp_path, workers=1, timing=timing) as service:
        for times in range(1, 20):
            service.signal("KILL", service.wait_for("worker-ready", times=times)["pid"])
        service.wait_for("worker-ready", times=20)


def test_worker_that_keeps_dying_is_made_to_wait(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "steady": 60.0, "backoff": 0.5}
    with running(tmp_path, workers=1, timing=timing) as service:
        for times in range(1, 6):
            service.signal("KILL", service.wait_for("worker-ready", times=times)["pid"])
        ready = service.wait_for("worker-ready", times=6)
        begun = time.monotonic()
        service.signal("KILL", ready["pid"])
        service.wait_for("worker-ready", times=7)
        assert time.monotonic() - begun >= 0.5


def test_serving_generation_outlasts_workers_that_cannot_start_for_a_while(tmp_path: Path) -> None:
    obstacle = tmp_path / "obstacle"
    timing = {"beat": 0.05, "backoff": 0.1}
    with running(tmp_path, workers=1, obstacle=str(obstacle), timing=timing) as service:
        service.ready()
        obstacle.touch()
        service.signal("KILL", service.workers()["echo 1 generation 1"])
        refused = service.wait_for("worker-refused", times=7)
        assert refused["reason"].endswith("is in the way")
        obstacle.unlink()
        service.wait_for("worker-ready", times=2)
        assert service.ask("hello") == "hello"


def test_stuck_worker_is_killed_and_replaced(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "stuck": 0.5}
    with running(tmp_path, workers=1, timing=timing) as service:
        service.ready()
        assert service.ask("hang") == "hang"
        stuck = service.wait_for("worker-stuck")
        assert stuck["silent"] >= 0.5
        service.wait_for("worker-died", pid=stuck["pid"], exit="signal 9")
        service.wait_for("worker-ready", times=2)
        assert service.ask("hello") == "hello"


def test_stopped_worker_is_killed_and_replaced(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "stuck": 0.5}
    with running(tmp_path, workers=1, timing=timing) as service:
        service.ready()
        service.signal("STOP", service.workers()["echo 1 generation 1"])
        service.wait_for("worker-ready", times=2)
        assert service.ask("hello") == "hello"


def test_all_stopped_together_are_not_taken_for_stuck(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "stuck": 0.5}
    with running(tmp_path, workers=2, timing=timing) as service:
        service.ready()
        workers = list(service.workers().values())
        os.killpg(service.master, 19)
        begun = time.monotonic()
        eventually(lambda: time.monotonic() > begun + 0.7)
        service.signal("CONT")
        for pid in workers:
            service.signal("CONT", pid)
        service.signal("USR1")
        for pid in workers:
            service.wait_for("reopened", **{"from": pid})
        assert not service.seen("worker-stuck")


def test_number_lock_of_a_killed_holder_is_freed(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as service:
        service.ready()
        assert service.ask("hold") == ""
        died = service.wait_for("worker-died")["pid"]
        assert service.wait_for("told-of-death", pid=died)["freed"]
        assert 0 < int(service.ask("number")) < 1 << 62


def test_service_is_told_of_every_worker_that_is_gone(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as service:
        service.ready()
        workers = list(service.workers().values())
        service.signal("HUP")
        for pid in workers:
            service.wait_for("told-of-death", pid=pid)


def test_workers_finish_and_leave_when_the_master_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as service:
        service.ready()
        with service.connect() as busy, service.connect() as idle:
            assert busy.ask("begin") == "begin"
            assert idle.ask("hello") == "hello"
            service.signal("KILL")
            service.wait_for("master-died", times=2)
            assert idle.closed()
            assert busy.ask("end") == "end"
        service.wait_for_silence()


def test_workers_of_a_killed_master_have_only_so_much_time(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "stop": 0.2}
    with running(tmp_path, timing=timing) as service:
        service.ready()
        with service.connect() as busy:
            busy.ask("begin")
            service.signal("KILL")
            service.wait_for_silence()
            assert service.seen("stopped")


def test_killed_master_can_be_started_again_at_once(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as service:
        service.ready()
        with service.connect() as busy:
            assert busy.ask("begin") == "begin"
            service.signal("KILL")
            service.wait()
            service.start()
            service.ready()
            assert service.ask("hello") == "hello"
            assert busy.ask("end") == "end"
