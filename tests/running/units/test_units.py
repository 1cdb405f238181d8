"""The units that are shipped, run by systemd itself, on a machine of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.running.program import eventually, write_toml
from tests.running.units import probe
from tests.running.units.machine import PYTHON, Machine, publish
from tests.sendmail import front

INBOUND, OUTBOUND = "pfsmtp-inbound.service", "pfsmtp-outbound.service"
INBOUND_SOCKET, OUTBOUND_SOCKET = "pfsmtp-inbound.socket", "pfsmtp-outbound.socket"
NO_CAPABILITIES = "AmbientCapabilities=\nCapabilityBoundingSet=\n"
USER = {INBOUND: "pfsmtp", OUTBOUND: "pfsmtp-out"}
SUBMISSION = 2525
"""The outbound server's port."""
BESIDE = "postmaster@[127.0.0.1]"
"""Who is the inbound server's, seen from the outbound one."""
NOBODY = "postmaster@[192.0.2.1]"
"""Whom nothing reaches: it stays in the queue."""
ALL = {deed.__name__ for deed in probe.DEEDS}
FED = "WatchdogTimestampMonotonic"
"""When the watchdog was fed last, in microseconds."""
RESTART = 60.0
"""Seconds for what waits for a watchdog, and for the pause before a restart."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with both servers configured, as docs/operating.md has it; and not running yet."""
    machine = Machine(tmp_path)
    inbound = {
        "role": "inbound",
        "hostname": "mx.example.org",
        "listen": {"smtp": ["0.0.0.0:25", "[::]:25"], "smtps": ["0.0.0.0:465", "[::]:465"]},
        "tls": {
            "certificate": "/var/lib/pfsmtp/tls/cert.pem",
            "key": "/var/lib/pfsmtp/tls/key.pem",
        },
        "workers": {"processes": 2},
        "local": {"users": "users", "maildir": "/var/lib/pfsmtp/mail/{login}"},
    }
    outbound = {
        "role": "outbound",
        "hostname": "mail.example.org",
        # Port 25 is the inbound server's, and everything that is sent goes to that one.
        "listen": {"smtp": [f"127.0.0.1:{SUBMISSION}"]},
        "workers": {"processes": 1},
        "queue": {"directory": "/var/lib/pfsmtp-out/queue"},
        "relay": {"loopback": True},
    }
    write_toml(machine.etc / "pfsmtp" / "inbound.toml", inbound)
    write_toml(machine.etc / "pfsmtp" / "outbound.toml", outbound)
    (machine.etc / "pfsmtp" / "users").write_text(
        "alice : alice@example.org, postmaster@example.org\n"
    )
    return machine


def deliver(machine: Machine, port: int = 25, to: str = "alice@example.org") -> None:
    with machine.connect(port) as client:
        client.begin(to)
        assert client.say("Subject: x\r\n.").startswith("250")


def hand_over(machine: Machine, to: str) -> None:
    """Let a user send a message with the front, which finds the socket by itself."""
    if not (machine.opt / "front").exists():
        publish(front.build(machine.opt / "front", python="#!/bin/false\n").parent)
    command = f"echo | /opt/front/pfsmtp-sendmail -f '' '{to}'"
    machine.run("setpriv", "--reuid=alice", "--clear-groups", "sh", "-c", command)


def stored(machine: Machine) -> int:
    return len(list((machine.var / "lib" / "pfsmtp" / "mail" / "alice" / "new").glob("*")))


def statuses(machine: Machine, unit: str) -> Iterator[dict[str, str]]:
    """What the kernel says of each process of a service."""
    for pid in machine.processes(unit):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        yield {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_units_serve_reload_and_stop(machine: Machine) -> None:
    machine.install(INBOUND)
    machine.install(OUTBOUND)
    with machine.running():
        machine.systemctl("start", INBOUND, OUTBOUND)
        deliver(machine)
        deliver(machine, SUBMISSION, to=BESIDE)
        eventually(lambda: stored(machine) == 2, what=machine.errors())
        hand_over(machine, BESIDE)
        eventually(lambda: stored(machine) == 3, what=machine.errors())
        for unit, user in USER.items():
            uid = machine.run("id", "-u", user)
            processes = list(statuses(machine, unit))
            assert len(processes) == 3
            for process in processes:
                assert process["Uid"].split() == [uid] * 4
                assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")
            machine.systemctl("reload", unit)
            machine.await_state(unit, "StatusText", holds="generation 2".__eq__)
        deliver(machine)
        for unit in USER:
            assert machine.show(unit, "NRestarts") == "0"
            machine.systemctl("stop", unit)
            assert machine.show(unit, "Result") == "success"
            assert machine.show(unit, "ExecMainStatus") == "0"
            assert machine.processes(unit) == {}


@pytest.mark.parametrize("unit", [INBOUND, OUTBOUND])
def test_units_sandbox_denies_what_a_server_has_no_business_to_do(
    machine: Machine, unit: str
) -> None:
    user = USER[unit]
    shutil.copy(probe.__file__, machine.opt / "probe.py")
    probing = f"{PYTHON} /opt/probe.py /var/lib/{user}/"
    machine.install(unit, f"ExecStartPre={probing}sandboxed")
    bare = f"[Service]\nType=oneshot\nUser={user}\nExecStart={probing}bare\n"
    machine.write_unit("bare.service", bare)
    anybody = machine.opt / "anybody"
    anybody.mkdir()
    anybody.chmod(0o777)
    with machine.running():
        machine.run("ln", "-s", "null", "/dev/extra")
        machine.run("install", "-m", "644", "/dev/null", "/tmp/of-others")
        machine.systemctl("start", unit)
        machine.systemctl("start", "bare")
    could = {
        name: set(json.loads((machine.var / "lib" / user / name).read_text()))
        for name in ("sandboxed", "bare")
    }
    assert could["sandboxed"] == set()
    # Which not every machine lets everybody do.
    assert could["bare"] | {"make_namespaces", "use_other_address_families"} == ALL


def test_socket_unit_starts_the_server_which_needs_no_capability(machine: Machine) -> None:
    machine.install(INBOUND, NO_CAPABILITIES)
    machine.install(INBOUND_SOCKET)
    with machine.running():
        machine.systemctl("start", INBOUND_SOCKET)
        assert machine.processes(INBOUND) == {}
        deliver(machine)
        with machine.connect(465) as client:
            client.secure().begin()
            assert client.say("Subject: x\r\n.").startswith("250")
        assert stored(machine) == 2
        assert {process["CapBnd"] for process in statuses(machine, INBOUND)} == {"0" * 16}
        # Who comes while it restarts waits.
        machine.systemctl("stop", INBOUND)
        deliver(machine)
        assert stored(machine) == 3


def test_socket_unit_keeps_the_way_for_programs_open(machine: Machine) -> None:
    outbound = machine.etc / "pfsmtp" / "outbound.toml"
    outbound.write_text(outbound.read_text().replace(f":{SUBMISSION}", ":25"))
    machine.install(OUTBOUND, NO_CAPABILITIES)
    machine.install(OUTBOUND_SOCKET)
    accepted = 0

    def take(message: Callable[[], object]) -> None:
        nonlocal accepted
        message()
        accepted += 1
        assert machine.errors().count("event=message-accepted") == accepted

    with machine.running():
        machine.systemctl("start", OUTBOUND_SOCKET)
        assert machine.processes(OUTBOUND) == {}
        take(partial(hand_over, machine, NOBODY))
        take(partial(deliver, machine, to=NOBODY))
        assert {process["CapBnd"] for process in statuses(machine, OUTBOUND)} == {"0" * 16}
        for stopping in ("restart", "stop"):
            machine.systemctl(stopping, OUTBOUND)
            take(partial(hand_over, machine, NOBODY))


def is_later(than: float, at: str) -> bool:
    return int(at) > than


def test_watchdog_is_fed_and_ends_who_hangs(machine: Machine) -> None:
    for unit in USER:
        machine.install(unit, "WatchdogSec=10\n")

    with machine.running():
        machine.systemctl("start", *USER)
        masters = {unit: machine.master(unit) for unit in USER}
        for unit in USER:
            span = partial(is_later, int(machine.show(unit, FED)) + 11e6)
            machine.await_state(unit, FED, holds=span, within=RESTART)
        for unit, master in masters.items():
            assert machine.show(unit, "NRestarts") == "0"
            os.kill(master, signal.SIGSTOP)
        for unit, master in masters.items():
            machine.await_state(unit, "NRestarts", holds="1".__eq__, within=RESTART)
            machine.await_state(unit, "ActiveState", holds="active".__eq__)
            assert machine.master(unit) != master
        deliver(machine)
        deliver(machine, SUBMISSION, to=BESIDE)
        eventually(lambda: stored(machine) == 2, what=machine.errors())


def test_receivers_go_on_while_no_deliverer_can_start(machine: Machine) -> None:
    """The queue is closed to the next deliverer; the receivers have it open still."""
    machine.install(OUTBOUND, "WatchdogSec=10\n")
    queue = machine.var / "lib" / "pfsmtp-out" / "queue"
    with machine.running():
        machine.systemctl("start", OUTBOUND)
        master, titles = machine.master(OUTBOUND), machine.processes(OUTBOUND)
        (deliverer,) = (pid for pid, title in titles.items() if "deliverer" in title)
        queue.chmod(0)
        os.kill(deliverer, signal.SIGKILL)
        machine.await_state(OUTBOUND, "StatusText", holds=tells_of_deliverer)
        span = partial(is_later, int(machine.show(OUTBOUND, FED)) + 11e6)
        machine.await_state(OUTBOUND, FED, holds=span, within=RESTART)
        deliver(machine, SUBMISSION, to=NOBODY)
        assert "event=workers-failing" in machine.errors()
        queue.chmod(0o700)
        machine.await_state(OUTBOUND, "StatusText", holds="generation 1".__eq__, within=RESTART)
        assert machine.master(OUTBOUND) == master
        assert machine.show(OUTBOUND, "NRestarts") == "0"


def tells_of_deliverer(status: str) -> bool:
    return status.startswith("generation 1; deliverer 1 down: cannot start: ")
