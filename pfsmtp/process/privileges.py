"""Who a worker runs as, and giving up the way back.

Names are looked up when the configuration is read, in the master, so that a wrong one stops a start
or a reload; a worker becomes that user for good right after the fork, and gives up what it has no
use for: capabilities, set-uid programs, and being looked into by others of that user. Binding ports
below 1024 comes before, and is left to the service. `PrivilegeError` says what to do.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import struct
from dataclasses import dataclass

from pfsmtp.process.errors import ServiceError

_PR_SET_DUMPABLE = 4  # prctl(2), linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522  # capset(2), linux/capability.h


class PrivilegeError(ServiceError):
    """A user or group that is not there, or that this process cannot become."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, its group and all its groups, by number."""

    user: int
    group: int
    groups: tuple[int, ...]
    name: str

    def assume(self) -> None:
        """Become this user in this process, for good. Raises PrivilegeError."""
        try:
            # Groups first: the user may no longer change them.
            if os.geteuid() == 0:
                os.setgroups(self.groups)
            os.setresgid(self.group, self.group, self.group)
            os.setresuid(self.user, self.user, self.user)
        except OSError as error:
            raise PrivilegeError(f"cannot run as user {self.name!r}: {error.strerror}") from error
        if self.user != 0 and _can_become_root():
            raise PrivilegeError(f"user {self.name!r} could become root again; refusing to run")


def identity(user: str | None, group: str | None) -> Identity | None:
    """Look up whom workers run as; None when it is who the master is already.

    Raises PrivilegeError for a user or group that does not exist, and when this process may not
    become that user.
    """
    if user is None and group is None:
        return None
    entry = _user(user)
    gid = _group(group) if group is not None else entry.pw_gid
    if os.geteuid() != 0:
        if (entry.pw_uid, gid) == (os.geteuid(), os.getegid()):
            return None
        raise PrivilegeError(
            f"only root can run workers as user {entry.pw_name!r} and group {gid}, and this process"
            f" has uid {os.geteuid()}: start it as root, or take `user` and `group` out"
        )
    groups = tuple(sorted(os.getgrouplist(entry.pw_name, gid)))
    return Identity(entry.pw_uid, gid, groups, entry.pw_name)


def relinquish() -> None:
    """Give up in this process, for good, what its user may have and nobody here needs."""
    forbid_inspection()
    drop_capabilities()
    forbid_new_privileges()


def forbid_inspection() -> None:
    """Write no core dump, and keep others of this user from tracing us (PR_SET_DUMPABLE).

    Holds for the processes we fork too. What is in memory is people's mail, and keys.
    """
    _prctl(_PR_SET_DUMPABLE, 0, what="PR_SET_DUMPABLE")


def drop_capabilities() -> None:
    """Keep none of the capabilities that the service manager may have given, to bind ports.

    Root keeps them: without, it could not use what belongs to others, for which it was chosen.
    """
    if os.geteuid() == 0:
        return
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    nothing = bytes(2 * struct.calcsize("=III"))
    # Those that are ambient go with the permitted ones.
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def forbid_new_privileges() -> None:
    """Make set-uid programs harmless to this process and all it starts (PR_SET_NO_NEW_PRIVS)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")


def _prctl(option: int, value: int, *, what: str) -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # The kernel looks at all 64 bits of each argument.
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    if prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _user(name: str | None) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.geteuid()) if name is None else pwd.getpwnam(name)
    except KeyError:
        if name is None:
            raise PrivilegeError("this user has no name: give `user` beside `group`") from None
        raise PrivilegeError(f"there is no user {name!r}: create it, or correct `user`") from None


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise PrivilegeError(f"there is no group {name!r}: create it, or correct `group`") from None


def _can_become_root() -> bool:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True
