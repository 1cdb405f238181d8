"""A machine with a systemd of its own, for the units that are shipped: namespaces, no boot loader.

    machine = Machine(directory)
    machine.install("pfsmtp-inbound.service")
    with machine.running():
        machine.systemctl("start", "pfsmtp-inbound")

The systemd installed here is the first process of new namespaces (`boot.sh`): it sees its own
processes and network, and `etc`, `opt` and `var` of the directory in the place of this machine's.
Of this machine it writes to nothing but one cgroup below the root, which is taken away again.
It ends with the test, whatever becomes of that, and all that it has started ends with it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import needs
from tests.running.program import PATIENCE, ROOT, Talk, eventually
from tests.sendmail import front

_BOOT = Path(__file__).parent / "boot.sh"
_SYSTEMD = "/lib/systemd/systemd"
_NAMESPACES = ("--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup")
_CLONE_NEWNET = 0x40000000
_USERS = {"root": 0, "pfsmtp": 990, "pfsmtp-out": 991, "alice": 1000}
_TARGETS = ("default", "basic", "sysinit", "sockets", "shutdown", "multi-user")

PYTHON = "/opt/pfsmtp/bin/python"
"""The interpreter of the tests, with all they can import, as users of the machine can run it."""


class Machine:
    """Its directory can be looked into all the time; all else is there while it is `running`."""

    def __init__(self, directory: Path) -> None:
        needs.root()
        needs.tool(_SYSTEMD, package="systemd")
        for name in ("unshare", "nsenter", "setpriv"):
            needs.tool(name, package="util-linux")
        needs.tool("ip", package="iproute2")
        self.directory = directory
        self._cgroup = _unified() / f"pfsmtp-test-{os.getpid()}"
        self._leader = 0
        self._binds: list[str] = []
        self.etc, self.opt, self.var = (directory / name for name in ("etc", "opt", "var"))
        for path in (self.etc, self.opt, self.var, directory / "dev"):
            path.mkdir()
        self._units = self.etc / "systemd" / "system"
        self._fill()

    def _fill(self) -> None:
        """What a machine has, as far as anybody looks here."""
        for name in ("lib", "log", "tmp", "cache"):
            (self.var / name).mkdir()
        (self.etc / "pfsmtp").mkdir()
        self._units.mkdir(parents=True)
        for name in _TARGETS:
            (self._units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        users = [f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in _USERS.items()]
        (self.etc / "passwd").write_text("".join(users))
        (self.etc / "group").write_text("".join(f"{n}:x:{i}:\n" for n, i in _USERS.items()))
        (self.etc / "hosts").write_text("127.0.0.1 localhost\n")
        (self.etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (self.etc / "machine-id").write_text("0123456789abcdef" * 2 + "\n")
        shutil.copy("/etc/ld.so.cache", self.etc)
        self._install_program()

    def _install_program(self) -> None:
        """/opt/pfsmtp, as after an installation, out of this tree and what it can import."""
        base = Path(sys.base_prefix).resolve()
        interpreter = Path(sys.executable).resolve()
        if not interpreter.is_relative_to(base):
            needs.lacking(f"needs an interpreter below its prefix, not {interpreter} of {base}")
        home = self.opt / "pfsmtp"
        for name in ("bin", "lib", "python"):
            (home / name).mkdir(parents=True)
        self._binds += [str(base), "/opt/pfsmtp/python"]
        shutil.copytree(ROOT / "pfsmtp", home / "lib" / "pfsmtp")
        places = ["/opt/pfsmtp/lib"]
        for index, path in enumerate(Path(name).resolve() for name in sys.path if name):
            if path.is_dir() and not path.is_relative_to(base) and path != ROOT:
                (home / f"site{index}").mkdir()
                places.append(f"/opt/pfsmtp/site{index}")
                self._binds += [str(path), places[-1]]
        python = f"/opt/pfsmtp/python/{interpreter.relative_to(base)}"
        variables = (
            "PYTHONHOME=/opt/pfsmtp/python",
            f"PYTHONPATH={':'.join(places)}",
            "LD_LIBRARY_PATH=/opt/pfsmtp/python/lib",  # if it is a shared library
        )
        self._script(PYTHON, f'{" ".join(variables)} exec {python} "$@"')
        front.build(home / "bin", "pfsmtp", sanitized=False)
        self._script("/opt/pfsmtp/bin/pfsmtp-python", f'exec {PYTHON} -m pfsmtp "$@"')

    def _script(self, path: str, line: str) -> None:
        script = self.opt / Path(path).relative_to("/opt")
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)

    def install(self, unit: str, changes: str = "") -> None:
        """Install a unit as it is shipped, with the operator's `changes` in a file beside it."""
        shutil.copy(ROOT / "conf" / unit, self._units)
        if unit.endswith(".service"):
            # Nobody keeps a journal.
            changes = f"[Service]\nStandardError=append:/var/log/{unit}.stderr\n{changes}"
        if changes:
            self.write_unit(f"{unit}.d/changes.conf", changes)

    def write_unit(self, name: str, text: str) -> None:
        path = self._units / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    # -- its life

    @contextmanager
    def running(self) -> Iterator[None]:
        """Boot it, and in the end let nothing be left of it."""
        _try_namespaces()
        for path in (self.etc, self.opt, self.var):
            publish(path)
        try:
            self._cgroup.mkdir()
        except OSError as error:
            pytest.skip(f"cannot make a cgroup: {error}")
        enter = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self._cgroup))
        unshare = ("setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork")
        boot = ("--kill-child", "--", "sh", str(_BOOT), str(self.directory), *self._binds)
        said = self.directory / "boot"
        with said.open("wb") as errors:
            process = subprocess.Popen(
                (*enter, *unshare, *boot), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            eventually(lambda: self._has_booted(process, children, said), what="systemd")
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
            eventually(self._remove_cgroup, what=f"removal of {self._cgroup}")

    def _has_booted(self, process: subprocess.Popen[bytes], children: Path, said: Path) -> bool:
        assert process.poll() is None, said.read_text()
        first = children.read_text().split()
        if not first or Path(f"/proc/{first[0]}/comm").read_text() != "systemd\n":
            return False
        self._leader = int(first[0])
        return self.ask("systemctl", "is-system-running") in ("running", "degraded")

    def _remove_cgroup(self) -> bool:
        try:
            for path, _, _ in os.walk(self._cgroup, topdown=False):
                os.rmdir(path)
        except OSError:
            return False
        return True

    # -- what is done on it

    def command(self, *words: str) -> tuple[str, ...]:
        """What runs a command on it, as root."""
        return ("nsenter", f"--target={self._leader}", "--all", "--", *words)

    def run(self, *words: str) -> str:
        """Run a command that succeeds; return what it prints."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{self.errors()}"
        return done.stdout.strip()

    def ask(self, *words: str) -> str:
        """Run a command; return what it prints, whether it succeeds or not."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True)
        return done.stdout.strip()

    def systemctl(self, *words: str) -> str:
        return self.run("systemctl", *words)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", "-p", name, unit)

    def await_state(
        self, unit: str, name: str, *, holds: Callable[[str], bool], within: float = PATIENCE
    ) -> None:
        """Wait until a property of a unit is as wanted."""
        eventually(
            lambda: holds(self.show(unit, name)),
            within=within,
            what=f"{name} of {unit}",
            every=0.2,  # each look is a program
        )

    def errors(self) -> str:
        """What the services have said on stderr."""
        return "".join(path.read_text() for path in (self.var / "log").glob("*.stderr"))

    def processes(self, unit: str) -> dict[int, str]:
        """The processes of a service: their PIDs, as seen from here, and what `ps` shows."""
        members = self._cgroup / "system.slice" / unit / "cgroup.procs"
        if not members.exists():
            return {}
        return {int(pid): _title(int(pid)) for pid in members.read_text().split()}

    def master(self, unit: str) -> int:
        """The PID of a service's master, as seen from here."""
        pids = [pid for pid, title in self.processes(unit).items() if ": master" in title]
        assert len(pids) == 1, self.processes(unit)
        return pids[0]

    def connect(self, port: int) -> Talk:
        """Talk to a port of its loopback address."""
        with ThreadPoolExecutor(1) as inside:
            return Talk.over(inside.submit(self._connect, port).result())

    def _connect(self, port: int) -> socket.socket:
        """Called in a thread of its own, which ends in the other network."""
        with Path(f"/proc/{self._leader}/ns/net").open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_connection(("127.0.0.1", port), PATIENCE)


def publish(path: Path) -> None:
    """Let all users read and run what is there, whatever the umask of this process."""
    for each in (path, *path.rglob("*")):
        mode = each.stat().st_mode
        each.chmod(mode | (0o555 if mode & 0o100 else 0o444))


def _unified() -> Path:
    """Where the second version of cgroups is, which every kernel that systemd runs on has."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    pytest.skip("needs the second version of cgroups")


def _try_namespaces() -> None:
    """A container may have been denied them, in CI too."""
    tried = subprocess.run(
        ["unshare", *_NAMESPACES, "--fork", "mount", "-t", "proc", "none", "/proc"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"cannot make namespaces: {tried.stderr.strip()}")


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
