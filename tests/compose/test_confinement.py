"""Each kind of worker can do its work once it is confined, and nothing else."""

from __future__ import annotations

import errno
import importlib
import os
import socket
import ssl
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pfsmtp.compose.confinement import confine_deliverer, confine_receiver, report
from pfsmtp.config import Inbound, Outbound, load
from pfsmtp.log import Log
from pfsmtp.process import landlock
from pfsmtp.process.errors import ServiceError
from pfsmtp.process.privileges import forbid_new_privileges
from tests import needs
from tests.process.forked import Child
from tests.running.program import write_toml

_Config = TypeVar("_Config", Inbound, Outbound)
Confine = Callable[[], None]

NEVER_IMPORTED = "colorsys"
"""A module of the standard library that nobody has imported by then."""


@pytest.fixture(autouse=True)
def _kernel() -> None:
    needs.landlock(2)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    (tmp_path / "log").mkdir()
    log = Log(tmp_path / "log" / "file")
    yield log
    log.close()


def inbound(directory: Path, **local: Any) -> Inbound:
    sections = {
        "role": "inbound",
        "hostname": "mx.example.org",
        "listen": {"smtp": ["127.0.0.1:25"]},
        "local": {"users": "users", "maildir": "mail/{login}", **local},
    }
    return _written(directory, sections, Inbound)


def outbound(directory: Path, **relay: Any) -> Outbound:
    sections = {
        "role": "outbound",
        "hostname": "mail.example.org",
        "listen": {"smtp": ["127.0.0.1:25"]},
        "queue": {"directory": "queue"},
        "relay": relay,
    }
    return _written(directory, sections, Outbound)


def _written(directory: Path, sections: dict[str, Any], kind: type[_Config]) -> _Config:
    path = directory / "pfsmtp.toml"
    write_toml(path, sections)
    (directory / "users").write_text("alice : alice@example.org\n")
    config = load(path)
    assert isinstance(config, kind)
    return config


def confined(confine: Confine, call: Callable[[], object]) -> Any:
    """What `call` returns in a child that is a confined worker."""

    def child() -> object:
        forbid_new_privileges()
        confine()
        return call()

    return Child(child).result()


def tried(*calls: Callable[[], object]) -> Callable[[], list[str]]:
    """Something for `confined` that tells how each of these ends."""

    def error_of(call: Callable[[], object]) -> str:
        try:
            call()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "done"

    return lambda: [error_of(call) for call in calls]


def connect(listener: socket.socket) -> Callable[[], object]:
    return lambda: socket.create_connection(listener.getsockname()).close()


def bind() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))


def as_maildir(directory: Path) -> Callable[[], object]:
    """Do there what a delivery does."""

    def call() -> None:
        for name in ("tmp", "new"):
            (directory / name).mkdir(parents=True)
        (directory / "tmp" / "file").write_text("mail")
        (directory / "tmp" / "file").rename(directory / "new" / "file")
        assert os.listdir(directory / "new") == ["file"]
        (directory / "new" / "file").unlink()

    return call


# -- receivers


@pytest.mark.parametrize("maildir", ["mail/{login}", "mail/{login}/Maildir", "mail/of-{login}"])
def test_receiver_keeps_mail_below_the_fixed_part_of_the_template(
    tmp_path: Path, log: Log, maildir: str
) -> None:
    config = inbound(tmp_path, maildir=maildir)
    calls = tried(as_maildir(tmp_path / "mail" / "alice"), as_maildir(tmp_path / "other"))
    assert confined(lambda: confine_receiver(config, log), calls) == ["done", "EACCES"]


def test_receiver_cannot_read_configuration_users_or_anything_of_the_system(
    tmp_path: Path, log: Log
) -> None:
    config = inbound(tmp_path)
    (tmp_path / "key.pem").touch()
    paths = [tmp_path / "pfsmtp.toml", tmp_path / "users", tmp_path / "key.pem"]
    paths += [Path("/etc/passwd"), Path("/proc/self/environ"), Path(sys.executable)]
    calls = tried(*(path.read_bytes for path in paths))
    assert set(confined(lambda: confine_receiver(config, log), calls)) == {"EACCES"}


def test_receiver_binds_and_connects_nowhere(tmp_path: Path, log: Log) -> None:
    needs.landlock(4)
    config = inbound(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calls = tried(bind, connect(listener))
        assert confined(lambda: confine_receiver(config, log), calls) == ["EACCES", "EACCES"]


def test_receiver_of_the_outbound_server_keeps_mail_in_the_queue(tmp_path: Path, log: Log) -> None:
    needs.landlock(4)
    config = outbound(tmp_path)
    queue = tmp_path / "queue"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calls = tried(
            as_maildir(queue / "slots"), lambda: os.mkfifo(queue / "fifo"), connect(listener)
        )
        ended = confined(lambda: confine_receiver(config, log), calls)
    assert ended == ["done", "done", "EACCES"]


def test_directory_of_the_mail_is_made_when_it_is_missing(tmp_path: Path, log: Log) -> None:
    config = inbound(tmp_path, maildir="var/mail/{login}")
    confined(lambda: confine_receiver(config, log), lambda: None)
    assert (tmp_path / "var" / "mail").stat().st_mode & 0o777 == 0o700


def test_worker_without_a_directory_for_the_mail_does_not_start(tmp_path: Path, log: Log) -> None:
    config = inbound(tmp_path, maildir="users/{login}")
    with pytest.raises(ServiceError, match=r"cannot keep mail in /.*/users: Not a directory"):
        confine_receiver(config, log)


def test_log_is_opened_anew_where_it_was_but_nothing_there_is_read_or_removed(
    tmp_path: Path, log: Log
) -> None:
    config = inbound(tmp_path)
    file = tmp_path / "log" / "file"
    file.rename(tmp_path / "log" / "file.1")

    def call() -> list[str]:
        log.reopen()
        log.event("reopened")
        return tried(file.read_text, file.unlink, lambda: os.listdir(file.parent))()

    assert confined(lambda: confine_receiver(config, log), call) == ["EACCES"] * 3
    assert "event=reopened" in file.read_text()


def test_modules_are_imported_and_sources_shown_late(tmp_path: Path, log: Log) -> None:
    config = inbound(tmp_path)
    assert NEVER_IMPORTED not in sys.modules

    def call() -> list[str]:
        module = importlib.import_module(NEVER_IMPORTED)
        try:
            module.rgb_to_hsv(None, 0, 0)
        except TypeError as error:
            return traceback.format_exception(error)
        return []

    trace = confined(lambda: confine_receiver(config, log), call)
    assert any("max" in line for line in trace)


def test_what_confines_workers_is_logged(tmp_path: Path, log: Log) -> None:
    report(log)
    assert f"event=confinement landlock={landlock.abi()} lacking=" in (
        (tmp_path / "log" / "file").read_text()
    )


# -- deliverers


def test_deliverer_connects_to_mail_hosts_and_name_servers_only(tmp_path: Path, log: Log) -> None:
    needs.landlock(4)
    with (
        socket.create_server(("127.0.0.1", 0)) as host,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        config = outbound(
            tmp_path,
            port=host.getsockname()[1],
            nameserver=[f"127.0.0.1:{server.getsockname()[1]}"],
        )
        calls = tried(connect(host), connect(server), connect(other), bind)
        ended = confined(lambda: confine_deliverer(config, log), calls)
    assert ended == ["done", "done", "EACCES", "EACCES"]


def test_deliverer_connects_to_the_smart_host(tmp_path: Path, log: Log) -> None:
    needs.landlock(4)
    with (
        socket.create_server(("127.0.0.1", 0)) as smart,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        config = outbound(
            tmp_path,
            port=other.getsockname()[1],
            host=f"127.0.0.1:{smart.getsockname()[1]}",
        )
        calls = tried(connect(smart), connect(other))
        ended = confined(lambda: confine_deliverer(config, log), calls)
    assert ended == ["done", "EACCES"]


def test_deliverer_keeps_mail_in_the_queue(tmp_path: Path, log: Log) -> None:
    config = outbound(tmp_path)
    calls = tried(as_maildir(tmp_path / "queue" / "slots"), as_maildir(tmp_path / "other"))
    assert confined(lambda: confine_deliverer(config, log), calls) == ["done", "EACCES"]


def test_deliverer_reads_the_systems_name_servers_unless_it_is_given_some(
    tmp_path: Path, log: Log
) -> None:
    path = Path("/etc/resolv.conf")
    if not path.exists():
        needs.lacking(f"needs {path}")
    systems, given = outbound(tmp_path), outbound(tmp_path, nameserver=["127.0.0.1:5353"])
    assert confined(lambda: confine_deliverer(systems, log), tried(path.read_text)) == ["done"]
    assert confined(lambda: confine_deliverer(given, log), tried(path.read_text)) == ["EACCES"]


def test_deliverer_finds_the_authorities_that_it_trusts(tmp_path: Path, log: Log) -> None:
    config = outbound(tmp_path, nameserver=["127.0.0.1:5353"])
    paths = ssl.get_default_verify_paths()

    def call() -> list[int]:
        context = ssl.create_default_context()
        found = os.listdir(paths.capath) if paths.capath else []
        read = [len(Path(f"{paths.capath}/{name}").read_bytes()) for name in found[:20]]
        return [context.cert_store_stats()["x509"], len(read)]

    before = call()
    if before[0] == 0:
        needs.lacking("needs ca-certificates (apt install ca-certificates)")
    assert confined(lambda: confine_deliverer(config, log), call) == before
