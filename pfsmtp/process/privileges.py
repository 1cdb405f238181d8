"""Who a worker runs as, and giving up the way back.

Names are looked up when the configuration is read, in the master, so that a wrong one stops a start
or a reload; a worker becomes that user for good right after the fork. Binding ports below 1024
comes before, and is left to the service. `PrivilegeError` says what to do.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
from dataclasses import dataclass

from pfsmtp.process.errors import ServiceError

_PR_SET_NO_NEW_PRIVS = 38  # prctl(2), linux/prctl.h


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


def forbid_new_privileges() -> None:
    """Make set-uid programs harmless to this process and all it starts (PR_SET_NO_NEW_PRIVS)."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # The kernel looks at all 64 bits of each argument.
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"PR_SET_NO_NEW_PRIVS: {os.strerror(code)}")


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
