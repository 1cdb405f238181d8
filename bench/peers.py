"""The servers that are compared, each started afresh in a directory of its own.

A `Site` is the place of one benchmark on disk: it makes a new directory for every start and
deletes none until all is measured, since ext4 walks past recently deleted inodes one by one when
it creates a file, and the second run would pay for the first. `Postfix` and `Pfsmtp` write their
configuration there, start, answer for their CPU time, and stop.

`PeerError` names what is missing and how to get it.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measure import Cgroup, ProcessTree

DOMAIN = "bench.test"
# smtp-source -t u@… sends to u, or with -r 10 to 1u … 10u.
USERS = ("u", *(f"{number}u" for number in range(1, 11)))
START_SECONDS = 15.0
STOP_SECONDS = 15.0


class PeerError(Exception):
    """A server cannot be run here; the message says what to do."""


class Site:
    """The place of one benchmark: a fresh directory for each start, one certificate for all."""

    def __init__(self, base: Path) -> None:
        """Make a directory for this benchmark below `base`, where other ones have theirs."""
        base.mkdir(parents=True, exist_ok=True)
        self._emptied = base / "emptied"
        self._count = 0
        _spread_subdirectories(base)
        self.root = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=base))
        self.root.chmod(0o755)
        _spread_subdirectories(self.root)

    def emptied_seconds_ago(self) -> float | None:
        """How long ago a benchmark deleted its files here; None if none has."""
        try:
            return time.time() - self._emptied.stat().st_mtime
        except OSError:
            return None

    def fresh(self, name: str) -> Path:
        """Make a directory that no run has used."""
        self._count += 1
        directory = self.root / f"{self._count:04}-{name}"
        directory.mkdir()
        return directory

    def certificate(self) -> tuple[Path, Path]:
        """Make the certificate (ECDSA P-256) and key that all servers use, once."""
        certificate, key = self.root / "certificate.pem", self.root / "key.pem"
        if not key.exists():
            command = (
                f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
                f" -subj /CN=mx.{DOMAIN} -out {certificate} -keyout {key}"
            )
            subprocess.run(shlex.split(command), check=True, capture_output=True)
        return certificate, key

    def empty(self) -> None:
        """Delete what all runs left; only when nothing more will be measured."""
        shutil.rmtree(self.root)
        self._emptied.touch()


def _spread_subdirectories(directory: Path) -> None:
    """Have ext4 put each directory made in it into another block group, away from old inodes.

    Other file systems have no such flag, and need none.
    """
    subprocess.run(["chattr", "+T", directory], capture_output=True, check=False)


class Server(ABC):
    """One server, once started: where it listens, where its mail arrives, what it has used."""

    name: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._cgroup = Cgroup.create(f"pfsmtp-bench-{os.getpid()}-{directory.name}")
        self._tree: ProcessTree | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def accounting(self) -> str:
        """How CPU time is counted."""
        return Cgroup.kind if self._cgroup else ProcessTree.kind

    def cpu_seconds(self) -> float:
        """CPU seconds, user and system, of all processes of the server since it was started."""
        if self._cgroup:
            return self._cgroup.cpu_seconds()
        if self._tree is None:
            self._tree = ProcessTree(self._master_pid())
        return self._tree.cpu_seconds()

    def processes(self) -> list[int]:
        """The processes of the server."""
        if self._cgroup:
            return self._cgroup.processes()
        return ProcessTree(self._master_pid()).processes()

    def new_directories(self) -> list[Path]:
        """Every Maildir's `new`."""
        return [self.directory / "mail" / user / "new" for user in USERS]

    def make_maildir(self) -> None:
        """Make that of the first user, for what delivers and makes none itself."""
        new = self.new_directories()[0]
        for directory in (new.with_name("tmp"), new):
            directory.mkdir(parents=True)

    def start(self) -> None:
        """Start, and return once the server greets."""
        self.configure()
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self._greets():
            if time.monotonic() > deadline:
                raise PeerError(f"{self.name} does not listen: see {self.directory}/log")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it, and kill what it left running."""
        self._shut_down()
        if self._cgroup is None:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while left := self._cgroup.processes():
            if time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self._cgroup.remove()

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return connection.recv(4) == b"220 "
        except OSError:
            return False

    def _run(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a command in the server's control group, its output in `log`."""
        with open(self.directory / "log", "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=self._cgroup.enter if self._cgroup else None,
            )

    @abstractmethod
    def configure(self) -> None:
        """Write what it reads at its start."""

    @abstractmethod
    def launch(self) -> None:
        """Start it; it may not listen yet."""

    @abstractmethod
    def _shut_down(self) -> None: ...

    @abstractmethod
    def _master_pid(self) -> int: ...


class Program(Server):
    """A server that is a program with its children: it ends when that is told to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command_line(self) -> list[str]: ...

    def launch(self) -> None:
        self._process = self._run(self._command_line())

    def _shut_down(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _master_pid(self) -> int:
        if self._process is None:
            raise PeerError(f"{self.name} has not been started")
        return self._process.pid


class Pfsmtp(Program):
    """This project's server as it is shipped, delivering into Maildirs."""

    name = "pfsmtp"

    def __init__(
        self, directory: Path, certificate: tuple[Path, Path], *, command: str, settings: str
    ) -> None:
        """`settings` is TOML that is added below the rest, for what a comparison varies."""
        super().__init__(directory)
        self._certificate = certificate
        self._command = command
        self._settings = settings

    @staticmethod
    def version(command: str) -> str:
        try:
            answer = subprocess.run(
                [*shlex.split(command), "--version"], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise PeerError(f"`{command} --version` failed: {error}; install pfsmtp") from error
        return answer.stdout.strip()

    def configure(self) -> None:
        certificate, key = self._certificate
        (self.directory / "pfsmtp.toml").write_text(
            f'''hostname = "mx.{DOMAIN}"
{self._delivery()}

[listen]
smtp = ["{self.address}"]
{self._socket()}
[tls]
certificate = "{certificate}"
key = "{key}"

{self._settings}
'''
        )

    def _delivery(self) -> str:
        """What sets the role and says where mail goes, as TOML."""
        users = "".join(f"{user} : {user}@{DOMAIN}\n" for user in USERS)
        (self.directory / "users").write_text(users)
        return """role = "inbound"

[local]
users = "users"
maildir = "mail/{login}"
"""

    def _socket(self) -> str:
        """A line of [listen] for where sendmail hands messages over, if it does."""
        return ""

    def _command_line(self) -> list[str]:
        return [*shlex.split(self._command), "-c", "pfsmtp.toml"]


class Postfix(Server):
    """Postfix, delivering with virtual(8) into Maildirs, with everything that throttles off.

    Its queue and its Maildirs are synced as Debian ships it (file, not directory). It logs to
    syslog only, which costs it least where no syslog daemon runs.
    """

    name = "postfix"
    mail_user = "nobody"

    def __init__(
        self, directory: Path, certificate: tuple[Path, Path], *, connections: int = 300
    ) -> None:
        """`connections` are open at most, each with an smtpd of its own."""
        super().__init__(directory)
        self.connections = connections
        self._certificate = certificate
        self._conf = directory / "conf"

    @staticmethod
    def version() -> str:
        if shutil.which("postfix") is None:
            raise PeerError("Postfix is not installed: apt install postfix, or --only pfsmtp")
        if os.geteuid() != 0:
            raise PeerError("Postfix can only be started by root: use sudo, or --only pfsmtp")
        answer = subprocess.run(
            ["postconf", "-d", "-h", "mail_version"], capture_output=True, text=True, check=True
        )
        return answer.stdout.strip()

    def configure(self) -> None:
        for name in ("conf", "queue", "data"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "data", "postfix")
        settings = {**self._common_settings(), **self._delivery_settings()}
        main_cf = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self._conf / "main.cf").write_text(main_cf)
        master_cf = POSTFIX_MASTER_CF.format(address=self.address, connections=self.connections)
        (self._conf / "master.cf").write_text(master_cf)

    def _common_settings(self) -> dict[str, object]:
        certificate, key = self._certificate
        return {
            **POSTFIX_UNTHROTTLED,
            "default_process_limit": self.connections,
            "compatibility_level": "3.6",
            "queue_directory": self.directory / "queue",
            "data_directory": self.directory / "data",
            "daemon_directory": "/usr/lib/postfix/sbin",
            "command_directory": "/usr/sbin",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "myhostname": f"mx.{DOMAIN}",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": certificate,
            "smtpd_tls_key_file": key,
        }

    def _delivery_settings(self) -> dict[str, object]:
        """Where mail goes."""
        mail_user = pwd.getpwnam(self.mail_user)
        (self.directory / "mail").mkdir()
        shutil.chown(self.directory / "mail", mail_user.pw_uid, mail_user.pw_gid)
        users = "".join(f"{user}@{DOMAIN} {user}/\n" for user in USERS)
        (self._conf / "users").write_text(users)
        return {
            "virtual_mailbox_domains": DOMAIN,
            "virtual_mailbox_base": self.directory / "mail",
            "virtual_mailbox_maps": f"texthash:{self._conf}/users",
            "virtual_uid_maps": f"static:{mail_user.pw_uid}",
            "virtual_gid_maps": f"static:{mail_user.pw_gid}",
        }

    def launch(self) -> None:
        # It goes on as a daemon; the control group keeps it.
        if self._run(["postfix", "-c", self._conf, "start"]).wait() != 0:
            raise PeerError(f"postfix does not start: see {self.directory}/log")

    def _shut_down(self) -> None:
        self._run(["postfix", "-c", self._conf, "stop"]).wait()

    def _master_pid(self) -> int:
        return int((self.directory / "queue" / "pid" / "master.pid").read_text())


POSTFIX_UNTHROTTLED = {
    "in_flow_delay": "0",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_message_rate_limit": "0",
    "smtpd_client_recipient_rate_limit": "0",
    "smtpd_peername_lookup": "no",
    "default_destination_concurrency_limit": "50",
    "initial_destination_concurrency": "50",
    "message_size_limit": "52428800",
    "virtual_mailbox_limit": "0",
}

POSTFIX_MASTER_CF = """\
{address} inet n - n - {connections} smtpd
pickup   unix n - n 60 1 pickup
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
tlsmgr   unix - - n 1000? 1 tlsmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
flush    unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp     unix - - n - 50 smtp
relay    unix - - n - 50 smtp
showq    unix n - n - - showq
error    unix - - n - - error
retry    unix - - n - - error
discard  unix - - n - - discard
virtual  unix - n n - 20 virtual
anvil    unix - - n - 1 anvil
scache   unix - - n - 1 scache
"""


def default_command() -> str:
    """The `pfsmtp` of this interpreter's environment, else the one on the PATH."""
    beside = Path(sys.executable).with_name("pfsmtp")
    return str(beside) if beside.exists() else "pfsmtp"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Start the server, and stop it whatever happens."""
    try:
        server.start()
        yield server
    finally:
        server.stop()
