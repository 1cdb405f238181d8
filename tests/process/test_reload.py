"""Reload by generation: nobody is refused, nothing begun is lost, a bad generation never serves."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.process.running import Client, Running, eventually, running, title


def test_hup_brings_a_new_generation_and_the_old_one_leaves(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as service:
        service.ready()
        service.signal("HUP")
        service.ready(2)
        service.wait_for("generation-left", generation=1)
        assert service.ask("who").endswith("generation 2")
        assert set(service.workers()) == {"echo 1 generation 2", "echo 2 generation 2"}
        assert title(service.master) == "pfsmtp: master [echo] generation 2"


def test_new_generation_is_ready_before_the_old_one_is_told_to_drain(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.ready()
        service.signal("HUP")
        draining = service.wait_for("generation-draining", generation=1)
        closed = service.wait_for("generation-closed")
        places = [service.events().index(event) for event in (service.ready(2), draining, closed)]
        assert places == sorted(places)


def test_new_generation_has_what_the_configuration_now_says(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as service:
        service.ready()
        service.configure(workers=3, helpers=1)
        service.signal("HUP")
        assert service.ready(2)["workers"] == 4


def test_what_has_been_begun_outlives_the_reload(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as service:
        service.ready()
        with service.connect() as busy, service.connect() as idle:
            assert busy.ask("begin") == "begin"
            assert idle.ask("hello") == "hello"
            old = service.workers()["echo 1 generation 1"]
            service.signal("HUP")
            service.ready(2)
            assert idle.closed()
            eventually(lambda: title(old).startswith("pfsmtp: echo 1 generation 1 draining"))
            assert busy.ask("who") == "echo 1 generation 1"
            assert busy.ask("end") == "end"
        service.wait_for("worker-left", pid=old, exit="status 0")


def test_old_generation_has_only_so_much_time(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "retire": 0.2, "quit": 1.0}
    with running(tmp_path, timing=timing) as service:
        service.ready()
        with service.connect() as busy:
            busy.ask("begin")
            service.signal("HUP")
            service.wait_for("generation-left", generation=1)
            assert busy.closed()
        assert service.ask("who").endswith("generation 2")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"load": "error"}, "the configuration is wrong: mend it"),
        ({"load": "bug"}, "bug: ZeroDivisionError('bad arithmetic')"),
        ({"user": "nobody-of-that-name"}, "there is no user 'nobody-of-that-name'"),
        ({"boot": "refuse"}, "echo 1 cannot start: no room at the inn"),
        ({"boot": "die"}, "echo 1 keeps dying, last with signal 9"),
    ],
)
def test_old_generation_goes_on_when_the_new_one_cannot(
    tmp_path: Path, broken: dict[str, str], reason: str
) -> None:
    with running(tmp_path, workers=1) as service:
        service.ready()
        with service.connect() as client:
            who = client.ask("who")
            service.configure(**broken)
            service.signal("HUP")
            assert service.wait_for("reload-failed")["reason"].startswith(reason)
            assert client.ask("who") == who
            assert service.ask("who") == who
        service.configure(load="", boot="", user=None)
        service.signal("HUP")
        service.wait_for("generation-left", generation=1)
        assert service.ask("who") != who


def test_generation_that_does_not_get_ready_is_given_up(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "boot": 0.3, "quit": 0.1}
    with running(tmp_path, workers=1, timing=timing) as service:
        service.ready()
        service.configure(boot="hang")
        service.signal("HUP")
        assert service.wait_for("reload-failed")["reason"] == "not ready within 0.3 s"
        service.wait_for("generation-left", generation=2)
        assert service.ask("who") == "echo 1 generation 1"


def test_hup_while_starting_is_not_lost(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.wait_for("master-starting")
        service.signal("HUP")
        service.ready(2)


def test_hups_close_together_are_one(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "reload_spacing": 1.0}
    with running(tmp_path, workers=1, timing=timing) as service:
        service.ready()
        service.signal("HUP")
        service.ready(2)
        for _ in range(100):
            service.signal("HUP")
        begun = time.monotonic()
        service.ready(3)
        assert time.monotonic() - begun > 0.5
        service.wait_for("generation-left", generation=2)
        assert len(service.seen("reload")) == 2


def test_a_thousand_hups_refuse_nobody_and_leave_nothing(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as service:
        service.ready()
        descriptors = len(os.listdir(f"/proc/{service.master}/fd"))
        clients = _Clients(service)
        for _ in range(1000):
            service.signal("HUP")
            clients.wait_for_one_more()
        assert clients.finish() == []
        eventually(lambda: len(os.listdir(f"/proc/{service.master}/fd")) == descriptors)
        service.signal("TERM")
        assert service.wait() == 0
        service.wait_for_silence()
        assert len(service.seen("generation-left")) > 2
        assert not service.seen("worker-died")


def _client_of(service: Running, generation: int) -> Client:
    """Connect until it is this generation that answers: the one before may not have heard yet."""
    while True:
        client = service.connect()
        if client.ask("who").endswith(f" {generation}"):
            return client
        client.close()


def test_too_many_draining_generations_are_hurried(tmp_path: Path) -> None:
    timing = {"beat": 0.05, "reload_spacing": 0.0, "stop": 0.2, "quit": 1.0}
    with running(tmp_path, workers=1, timing=timing) as service:
        service.ready()
        busy = []
        for number in range(1, 9):
            busy.append(client := _client_of(service, number))
            assert client.ask("begin") == "begin"
            service.signal("HUP")
            service.ready(number + 1)
            service.wait_for("generation-draining", generation=number)
        service.signal("HUP")
        service.ready(10)
        assert service.seen("generation-left", generation=1)
        assert not service.seen("generation-left", generation=2)
        for client in busy:
            client.close()


def test_term_during_a_reload_stops_both_generations(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as service:
        service.ready()
        service.configure(boot="hang", workers=2)
        service.signal("HUP")
        service.wait_for("reload")
        service.signal("TERM")
        assert service.wait() == 0
        service.wait_for_silence()


class _Clients:
    """Somebody who connects again and again, and expects to be answered each time."""

    def __init__(self, service: Running) -> None:
        self._port = service.port
        self._served = threading.Semaphore(0)
        self._over = threading.Event()
        self._failures: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for_one_more(self) -> None:
        assert self._served.acquire(timeout=20)

    def finish(self) -> list[str]:
        """Return what went wrong for the clients."""
        self._over.set()
        self._thread.join()
        return self._failures

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with Client(self._port) as client:
                    # Closed without an answer is what an idle connection of a worker that drains
                    # has to expect; being refused is not.
                    client.ask("hello")
            except OSError as error:
                self._failures.append(repr(error))
            self._served.release()
