"""Becoming somebody with fewer rights, for good."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from pfsmtp.process.privileges import Identity, PrivilegeError, forbid_new_privileges, identity
from tests.process.forked import Child

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = pwd.getpwnam("nobody")


def test_without_user_and_group_nothing_changes() -> None:
    assert identity(None, None) is None


def test_unknown_user_is_named_with_what_to_do() -> None:
    with pytest.raises(PrivilegeError, match="there is no user 'nosuch': create it, or correct"):
        identity("nosuch", None)


def test_unknown_group_is_named_with_what_to_do() -> None:
    with pytest.raises(PrivilegeError, match="there is no group 'nosuch': create it, or correct"):
        identity("nobody", "nosuch")


@root_only
def test_group_is_that_of_the_user_unless_given() -> None:
    daemon = grp.getgrnam("daemon").gr_gid
    own, given = identity("nobody", None), identity("nobody", "daemon")
    assert own is not None
    assert given is not None
    assert (own.user, own.group) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert (given.user, given.group) == (NOBODY.pw_uid, daemon)
    assert daemon in given.groups


@root_only
def test_identity_is_assumed_for_good() -> None:
    def child() -> list[object]:
        who = identity("nobody", None)
        assert who is not None
        who.assume()
        with pytest.raises(PermissionError):
            os.setuid(0)
        return [*os.getresuid(), *os.getresgid(), os.getgroups()]

    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    assert Child(child).result() == [uid, uid, uid, gid, gid, gid, [gid]]


@root_only
def test_others_cannot_become_somebody_else() -> None:
    def child() -> list[str]:
        os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
        with pytest.raises(PrivilegeError) as looked_up:
            identity("daemon", None)
        with pytest.raises(PrivilegeError) as assumed:
            Identity(1, 1, (1,), "daemon").assume()
        return [str(looked_up.value), str(assumed.value)]

    looked_up, assumed = Child(child).result()
    assert looked_up.endswith("start it as root, or take `user` and `group` out")
    assert assumed == "cannot run as user 'daemon': Operation not permitted"


@root_only
def test_being_that_user_already_is_no_error() -> None:
    def child() -> bool:
        os.setresgid(NOBODY.pw_gid, NOBODY.pw_gid, NOBODY.pw_gid)
        os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
        return identity("nobody", None) is None

    assert Child(child).result()


def test_new_privileges_are_forbidden() -> None:
    def child() -> bool:
        forbid_new_privileges()
        return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()

    assert Child(child).result()
