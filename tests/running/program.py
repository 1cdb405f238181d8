"""A server started as a user starts it: `pfsmtp -c FILE`, in directories of its own.

    with Program.inbound(tmp_path) as server:
        server.port …

`Program` writes the configuration, waits until the server greets, and ends it by pid. What it has
logged can be looked at as events; how it ended, too.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import random
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

PATIENCE = 20.0
"""Seconds that a test waits for what is to come about."""

ROOT = Path(__file__).parents[2]
USERS = {
    "alice": ["alice@example.org"],
    "bob": ["bob@example.org", "robert@example.org"],
    "postmaster": ["postmaster@example.org"],
    "rest": ["@catch.example"],
}

NOBODY = "nobody"
_FIRST_OUTGOING = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
"""Who keeps the mail where it must not be root, who runs the tests."""

Event = dict[str, Any]


def eventually(
    holds: Callable[[], bool], *, within: float = PATIENCE, what: str = "", every: float = 0.01
) -> None:
    """Look again and again until `holds`; fail if it does not in time."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"did not come about in time: {what}"
        select.select([], [], [], every)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has now, and no outgoing connection is given by the system."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(1000):
        port = random.SystemRandom().randrange(10_000, _FIRST_OUTGOING)
        with socket.socket(family) as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            return port
    raise RuntimeError("there is no free port")


def toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(item)}' for key, item in value.items())}}}"
    return json.dumps(str(value))


def write_toml(path: Path, sections: dict[str, Any]) -> None:
    """Write a configuration: top-level keys first, then a table for each dict."""
    lines = [f"{key} = {toml(value)}" for key, value in sections.items() if _is_plain(value)]
    for name, section in sections.items():
        if not _is_plain(section):
            lines.append(f"[{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in section.items()]
    path.write_text("\n".join(lines) + "\n")


def _is_plain(value: object) -> bool:
    return not isinstance(value, dict)


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `changes`, tables merged."""
    merged = dict(base)
    for key, value in changes.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(value, dict) and known else value
    return merged


def open_to_nobody(directory: Path) -> dict[str, str]:
    """Let nobody keep mail below `directory`: the keys to configure, none if we are not root."""
    if os.geteuid() != 0:
        return {}
    who = pwd.getpwnam(NOBODY)
    mail = directory / "mail"
    mail.mkdir()
    os.chown(mail, who.pw_uid, who.pw_gid)
    for parent in mail.parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o011)
    return {"user": NOBODY, "group": grp.getgrgid(who.pw_gid).gr_name}


class Program:
    """One `pfsmtp` and its workers."""

    def __init__(self, directory: Path, sections: dict[str, Any], *, port: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.sections = sections
        self.port = port
        self.config = directory / "pfsmtp.toml"
        self.log = directory / "log.json"
        self.errors = directory / "stderr"
        self._process: subprocess.Popen[bytes] | None = None
        write_toml(self.config, sections)

    @classmethod
    def inbound(cls, directory: Path, **changes: Any) -> Self:
        """An inbound server on 127.0.0.1 (`port`, and `smtps_port` for TLS) with some users."""
        directory.mkdir(parents=True, exist_ok=True)
        port, smtps = free_port(), free_port()
        users = directory / "users"
        users.write_text("".join(f"{login} : {', '.join(of)}\n" for login, of in USERS.items()))
        sections = {
            "role": "inbound",
            "hostname": "mx.example.org",
            "listen": {"smtp": [f"127.0.0.1:{port}"], "smtps": [f"127.0.0.1:{smtps}"]},
            "tls": {"certificate": "tls/cert.pem", "key": "tls/key.pem"},
            "workers": {"processes": 2},
            "local": {"users": "users", "maildir": str(directory / "mail" / "{login}")},
            "log": {"format": "json", "file": "log.json"},
        }
        server = cls(directory, merge(sections, changes), port=port)
        server.smtps_port = smtps
        return server

    @classmethod
    def outbound(cls, directory: Path, **changes: Any) -> Self:
        """An outbound server on 127.0.0.1 whose mail may go to hosts on loopback."""
        port = free_port()
        sections = {
            "role": "outbound",
            "hostname": "out.example.org",
            "listen": {"smtp": [f"127.0.0.1:{port}"]},
            "workers": {"processes": 2},
            "queue": {"directory": "queue"},
            "relay": {"loopback": True},
            "log": {"format": "json", "file": "log.json"},
        }
        return cls(directory, merge(sections, changes), port=port)

    smtps_port: int = 0
    prefix: tuple[str, ...] = ()
    """A command to run it under, unless `start` is given another."""
    inherited: tuple[int, ...] = ()
    """Descriptors that it is given along."""

    # -- its life

    def start(self, *, prefix: tuple[str, ...] = (), ready: bool = True) -> None:
        """Start, and wait until all workers are ready. `prefix` is a command to run it under."""
        before = len(self.events("generation-ready"))
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [*(prefix or self.prefix), sys.executable, "-m", "pfsmtp", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=self.directory,
                pass_fds=self.inherited,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
            )
        if ready:
            eventually(lambda: self._is_ready(before), what=self.errors.read_text())

    def _is_ready(self, before: int) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.errors.read_text() + self.log_text()
        return len(self.events("generation-ready")) > before

    @property
    def pid(self) -> int:
        """The master's."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """Pids of all its worker processes."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    def stop(self) -> int:
        """TERM, and its exit status; 0 again if it has ended already."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        status = self.wait()
        self._process = None
        return status

    def kill(self) -> None:
        """SIGKILL to the master and all workers."""
        pids = [self.pid, *self.workers()]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()
        eventually(lambda: not any(_runs(pid) for pid in pids))
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGTERM if kind is None else signal.SIGQUIT)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def reload(self) -> None:
        """HUP, and wait until nobody serves any more who has read the old files."""
        before = len(self.events("generation-left"))
        self.signal(signal.SIGHUP)
        self.await_event("generation-left", count=before + 1)

    def refuse_reload(self, file: Path, octets: bytes | None) -> Event:
        """HUP, with these octets in a file, or without the file; returns what it says of that."""
        before = len(self.events("reload-failed"))
        if octets is None:
            file.unlink()
        else:
            file.write_bytes(octets)
        self.signal(signal.SIGHUP)
        (failed,) = self.await_event("reload-failed", count=before + 1)[before:]
        return failed

    # -- what it does

    def reconfigure(self, **changes: Any) -> None:
        """Write the configuration anew; a HUP is left to the caller."""
        self.sections = merge(self.sections, changes)
        write_toml(self.config, self.sections)

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def events(self, name: str | None = None) -> list[Event]:
        """What has been logged, or the events of this name."""
        whole, _, _ = self.log_text().rpartition("\n")  # the last line may just be being written
        found = [json.loads(line) for line in whole.splitlines()]
        return [event for event in found if name is None or event["event"] == name]

    def await_event(self, name: str, *, count: int = 1) -> list[Event]:
        """Wait until there are `count` events of this name."""
        eventually(lambda: len(self.events(name)) >= count, what=f"{name} in {self.log_text()}")
        return self.events(name)

    def maildir(self, login: str) -> Path:
        return self.directory / "mail" / login

    def files(self, login: str) -> list[Path]:
        """The files in `new/`, the oldest first."""
        return sorted((self.maildir(login) / "new").glob("*"), key=_age)

    def stored(self, login: str) -> list[bytes]:
        """What is in `new/`, the oldest first."""
        return [path.read_bytes() for path in self.files(login)]

    def take(self, login: str) -> list[bytes]:
        """The same, and they are not there any more."""
        files = self.files(login)
        octets = [path.read_bytes() for path in files]
        for path in files:
            path.unlink()
        return octets

    def leftovers(self) -> list[Path]:
        """What is in any `tmp/`."""
        return list((self.directory / "mail").glob("*/tmp/*"))


def _age(path: Path) -> tuple[int, int]:
    """Seconds and microseconds, from a name as `<seconds>.M<microseconds>P…`."""
    seconds, rest = path.name.split(".M", 1)
    return int(seconds), int(rest.partition("P")[0])


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Talk:
    """A client that says exactly what it is told to, on a socket."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._use(socket.create_connection((host, port), timeout=PATIENCE))

    @classmethod
    def over(cls, sock: socket.socket) -> Self:
        """Talk on a socket that is connected already."""
        talk = cls.__new__(cls)
        talk._use(sock)
        return talk

    def _use(self, sock: socket.socket) -> None:
        self.socket = sock
        self._input = sock.makefile("rb")

    def secure(
        self,
        context: ssl.SSLContext | None = None,
        name: str | None = None,
        *,
        session: ssl.SSLSession | None = None,
    ) -> Self:
        """Shake hands; by default with whoever it is."""
        self._input.close()
        context = context or any_server()
        self._use(context.wrap_socket(self.socket, server_hostname=name, session=session))
        return self

    @property
    def tls(self) -> ssl.SSLSocket:
        assert isinstance(self.socket, ssl.SSLSocket)
        return self.socket

    def start_tls(self, context: ssl.SSLContext | None = None, name: str | None = None) -> None:
        """From the greeting to the handshake."""
        assert "STARTTLS" in self.greet()
        assert self.say("STARTTLS").startswith("220")
        self.secure(context, name)

    def hear(self) -> str:
        """The next reply, all its lines; "" when the server has closed."""
        reply = ""
        while line := self._input.readline().decode("utf-8", "replace"):
            reply += line
            if line[3:4] != "-":
                break
        return reply

    def say(self, line: str | bytes) -> str:
        """Send a line, and return the reply."""
        octets = line.encode() if isinstance(line, str) else line
        self.socket.sendall(octets + b"\r\n")
        return self.hear()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def closed(self) -> bool:
        """Wait for the server to close; False if it says something instead."""
        try:
            return self._input.read(1) == b""
        except ConnectionResetError:
            return True

    def greet(self) -> str:
        """Hear the greeting, say EHLO, and return what is offered."""
        assert self.hear().startswith("220")
        return self.hello()

    def hello(self) -> str:
        offered = self.say("EHLO client.example.net")
        assert offered.startswith("250")
        return offered

    def begin(self, *recipients: str) -> None:
        """From the greeting to the 354."""
        self.greet()
        self.envelope(*recipients)

    def envelope(self, *recipients: str) -> None:
        """MAIL, RCPT and DATA."""
        assert self.say("MAIL FROM:<sender@example.net>").startswith("250")
        for recipient in recipients or ("alice@example.org",):
            assert self.say(f"RCPT TO:<{recipient}>").startswith("250")
        assert self.say("DATA").startswith("354")

    def close(self) -> None:
        self._input.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def any_server() -> ssl.SSLContext:
    """A client's context that takes every certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def parallel(*calls: Callable[[], object]) -> Iterator[object]:
    """Run calls in threads at the same time, and yield their results in order."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(calls)) as pool:
        yield from [future.result() for future in [pool.submit(call) for call in calls]]
