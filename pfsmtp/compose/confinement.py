"""What each kind of worker is confined to: what its work takes, and no more (docs/security.md).

Called in the worker, once it is who it is to be and before it has threads. Mail goes to the one
place that the configuration names; nothing else can be written but the log. What can be read is
what Python and its libraries may still want to read. The certificates, the keys, the user map and
the configuration were read by the master: no worker can open them.

The directory for the mail is made when it is missing, since what does not exist cannot be given.
Where that cannot be done the worker does not start (ServiceError).
"""

from __future__ import annotations

import os
import ssl
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pfsmtp
from pfsmtp import durable
from pfsmtp.config import Config, Inbound, Outbound
from pfsmtp.delivery.maildir.directories import base_of
from pfsmtp.log import Log
from pfsmtp.process import landlock
from pfsmtp.process.errors import ServiceError
from pfsmtp.process.landlock import Access

_READ = Access.READ_FILE | Access.READ_DIR
_APPEND = Access.WRITE_FILE | Access.MAKE_REG
_KEEP_MAIL = (
    _READ
    | Access.WRITE_FILE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.REMOVE_FILE
    | Access.REFER  # from tmp/ to new/
)
_KEEP_QUEUE = _KEEP_MAIL | Access.MAKE_FIFO

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_TIME_ZONES = ("/etc/localtime", "/usr/share/zoneinfo")
_AUTHORITIES = ("/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/pki")
_KERNEL = ("/dev/null", "/dev/urandom", "/proc/sys/vm/overcommit_memory")  # the last: malloc
_UNWRITTEN = "/proc/meminfo"  # how much waits to be written to disks
_SYSTEM_CONFIGURATION = "/etc"
_DNS = 53


def confine_receiver(config: Config, log: Log) -> None:
    """Keep this worker to taking mail in: it makes no connections. Raises ServiceError, OSError."""
    landlock.confine(_common(log) | _mail(config), abi=landlock.abi())


def confine_deliverer(config: Outbound, log: Log) -> None:
    """Keep this worker to handing mail on, to mail hosts only. Raises ServiceError, OSError."""
    relay = config.relay
    readable = [*_AUTHORITIES, *_where_openssl_looks_for_authorities()]
    if not relay.nameserver:
        # resolv.conf is replaced by a new file when it changes, so its directory it has to be.
        readable += [_SYSTEM_CONFIGURATION, str(Path("/etc/resolv.conf").resolve().parent)]
    ports = {relay.host.port if relay.host else relay.port}
    ports |= {server.port for server in relay.nameserver} or {_DNS}
    landlock.confine(
        _common(log) | _mail(config) | _to_read(readable), connect=ports, abi=landlock.abi()
    )


def report(log: Log) -> None:
    """Write into the log what of this the kernel can do."""
    abi = landlock.abi()
    log.event("confinement", landlock=abi, lacking=landlock.lacking(abi))


def _mail(config: Config) -> dict[Path, Access]:
    match config:
        case Inbound():
            path, access = base_of(config.local.maildir), _KEEP_MAIL
            further = _to_read([_UNWRITTEN])
        case Outbound():
            path, access = config.queue.directory, _KEEP_QUEUE
            further = {}
    try:
        durable.make_path(path, now=time.time())
    except OSError as error:
        raise ServiceError(f"cannot keep mail in {path}: {error.strerror}") from error
    return {path: access} | further


def _common(log: Log) -> dict[Path, Access]:
    """What the log and the libraries need."""
    files = _to_read([*_python(), *_LIBRARIES, *_TIME_ZONES, *_openssl(), *_KERNEL])
    files[Path(os.devnull)] |= Access.WRITE_FILE
    if log.file is not None:
        # After it was rotated away, the file is made anew.
        directory = log.file.parent
        files[directory] = files.get(directory, Access(0)) | _APPEND
    return files


def _to_read(paths: Iterable[str]) -> dict[Path, Access]:
    return {Path(path): _READ for path in paths}


def _python() -> list[str]:
    """Where modules are. The first place is where the program is, or where it was started from."""
    return [*pfsmtp.__path__, *sys.path[0 if sys.flags.safe_path else 1 :]]


def _openssl() -> list[str]:
    """What OpenSSL reads when it is first used."""
    home = Path(ssl.get_default_verify_paths().openssl_cafile).parent
    return [str(home / "openssl.cnf"), os.environ.get("OPENSSL_CONF", os.devnull)]


def _where_openssl_looks_for_authorities() -> list[str]:
    paths = ssl.get_default_verify_paths()
    return [path for path in (paths.cafile, paths.capath) if path is not None]
