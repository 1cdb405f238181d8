"""Confines this process to the files and TCP ports it is given, with Landlock (landlock(7)).

Whatever takes a process over afterwards can open, make, remove and run nothing else, cannot bind a
TCP port, and cannot trace or signal anybody who is not confined with it. No privilege is needed,
only PR_SET_NO_NEW_PRIVS before; it holds for all that the calling thread starts from then on, and
there is no way back. What is open already stays usable. Who is confined to what is left to the
caller.

What it cannot do: keep from UDP, from UNIX sockets with a path (before ABI 9, which is not used
here), and from looking at what a file is and how large (stat).

The kernel says which version of the interface (ABI) it has, and what that version cannot confine
goes unconfined: `lacking` has the words for it. With none, or with the first, which forbids moving
a file between directories altogether, `confine` does nothing. A call that fails although the
version is there raises OSError, and then nothing is confined.
"""

from __future__ import annotations

import ctypes
import enum
import os
import stat
import struct
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

# The numbers are the same on all of Linux's architectures but Alpha.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446

_CREATE_RULESET_VERSION = 1  # a flag
_RULE_PATH_BENEATH = 1
_RULE_NET_PORT = 2
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1, 2

_SINCE = {"files": 2, "truncation": 3, "tcp": 4, "devices": 5, "signals": 6}
"""What is confined, and from which ABI on."""


class Access(enum.Flag):
    """What may be done to a file, or below a directory: the words and bits of linux/landlock.h."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13  # move or link between directories
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_TO_A_FILE = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)


def abi() -> int:
    """Which version of the interface this kernel has; 0 where there is none, or none is let in."""
    try:
        return _call(_CREATE_RULESET, ctypes.c_void_p(None), ctypes.c_size_t(0), 1)
    except OSError:
        # ENOSYS, EOPNOTSUPP (switched off at boot), or what a filter of system calls says.
        return 0


def lacking(abi: int) -> list[str]:
    """What this version cannot confine."""
    return [what for what, since in _SINCE.items() if abi < since]


def confine(files: Mapping[Path, Access], *, connect: Iterable[int] = (), abi: int) -> None:
    """Keep this process to these files, and to TCP connections to these ports, for good.

    A directory stands for all below it, a symbolic link for what it leads to. What does not exist,
    or cannot be reached, is not given, and will not be when it exists one day. To be called while
    there is but one thread. Raises OSError.
    """
    if abi < _SINCE["files"]:
        return
    if threading.active_count() > 1:
        raise RuntimeError("other threads would not be confined")
    handled = _handled(abi)
    ruleset = _create_ruleset(handled, abi)
    try:
        for path, access in files.items():
            _allow_beneath(ruleset, path, access & handled)
        if abi >= _SINCE["tcp"]:
            for port in connect:
                _add_rule(ruleset, _RULE_NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port))
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _handled(abi: int) -> Access:
    """All rights that this version knows, and so takes away where they are not given."""
    handled = ~Access(0)
    if abi < _SINCE["truncation"]:
        handled &= ~Access.TRUNCATE
    if abi < _SINCE["devices"]:
        handled &= ~Access.IOCTL_DEV
    return handled


def _create_ruleset(handled: Access, abi: int) -> int:
    ports = _BIND_TCP | _CONNECT_TCP if abi >= _SINCE["tcp"] else 0
    scoped = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if abi >= _SINCE["signals"] else 0
    # An older kernel takes a longer structure than its own if the rest of it is zero.
    attributes = struct.pack("=QQQ", handled.value, ports, scoped)
    return _call(_CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(len(attributes)), 0)


def _allow_beneath(ruleset: int, path: Path, access: Access) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            access &= _TO_A_FILE
        if access:
            _add_rule(ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", access.value, beneath))
    finally:
        os.close(beneath)


def _add_rule(ruleset: int, kind: int, rule: bytes) -> None:
    _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(kind), ctypes.c_char_p(rule), 0)


def _call(number: int, *arguments: object) -> int:
    """Make a system call that the C library has no function for. Raises OSError."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    result: int = syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
