"""Tries what a server has no business to do: `probe.py FILE` writes what could be done, as JSON.

Run by the units in their sandbox, and once without one, where everything can be done.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None)
_CLONE_NEWUSER = 0x10000000
_PER_LINUX32 = 8
_PTRACE_TRACEME = 0
_SECCOMP_FILTER = "2"


def _new_file(name: str) -> Path:
    path = Path(sys.argv[1]).with_name(name)
    path.unlink(missing_ok=True)
    path.write_text("x")
    return path


def _in_child(deed: Callable[[], int]) -> None:
    """For what changes the process that does it: a system call that returns -1 if it cannot be."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if status:
            raise OSError("refused")
        return
    os._exit(int(deed() < 0))


def _status(name: str) -> str:
    """What the kernel says of this process."""
    (value,) = re.findall(rf"^{name}:\s*(\w+)$", Path("/proc/self/status").read_text(), re.M)
    return str(value)


def write_elsewhere() -> None:
    Path("/opt/anybody/probe").write_text("x")


def read_homes() -> None:
    Path("/home/alice/secret").read_text()


def see_tmp_of_others() -> None:
    Path("/tmp/of-others").read_text()


def see_processes_of_others() -> None:
    Path("/proc/1/cmdline").read_text()


def see_devices() -> None:
    os.stat("/dev/extra")


def execute_what_is_written() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def make_set_user_id() -> None:
    _new_file("set-user-id").chmod(0o4700)


def make_readable_for_all() -> None:
    if not _new_file("readable").stat().st_mode & 0o044:
        raise OSError("the umask does not let it")


def make_namespaces() -> None:
    _in_child(lambda: int(_libc.unshare(_CLONE_NEWUSER)))


def trace() -> None:
    """Which is in no group of calls that services need."""
    _in_child(lambda: int(_libc.ptrace(_PTRACE_TRACEME, 0, 0, 0)))


def pretend_another_system() -> None:
    _in_child(lambda: int(_libc.personality(_PER_LINUX32)))


def use_other_address_families() -> None:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


def dump_core() -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        raise OSError("the limit is 0")


def gain_privileges() -> None:
    if _status("NoNewPrivs") != "0":
        raise OSError("no new privileges")


def go_unfiltered() -> None:
    if _status("Seccomp") == _SECCOMP_FILTER:
        raise OSError("filtered")


def have_more_capabilities() -> None:
    """Than the one to take ports below 1024, even through a program that gives them."""
    if int(_status("CapBnd"), 16) & ~(1 << 10) == 0:
        raise OSError("there are none")


DEEDS: tuple[Callable[[], None], ...] = (
    write_elsewhere,
    read_homes,
    see_tmp_of_others,
    see_processes_of_others,
    see_devices,
    execute_what_is_written,
    make_set_user_id,
    make_readable_for_all,
    make_namespaces,
    trace,
    pretend_another_system,
    use_other_address_families,
    dump_core,
    gain_privileges,
    go_unfiltered,
    have_more_capabilities,
)


def main() -> None:
    done = []
    for deed in DEEDS:
        try:
            deed()
        except OSError:
            continue
        done.append(deed.__name__)
    Path(sys.argv[1]).write_text(json.dumps(done))


if __name__ == "__main__":
    main()
