"""Becoming somebody with fewer rights, for good."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import resource
import signal
import struct
from pathlib import Path

import pytest

from pfsmtp.process.privileges import (
    Identity,
    PrivilegeError,
    drop_capabilities,
    forbid_inspection,
    forbid_new_privileges,
    identity,
)
from tests.process.forked import Child

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = pwd.getpwnam("nobody")
LIBC = ctypes.CDLL(None)
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_NET_BIND_SERVICE = 10


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


@root_only
def test_capability_to_bind_ports_is_dropped_with_the_rest() -> None:
    def child() -> list[dict[str, int]]:
        become_nobody_who_may_bind_ports()
        before = capabilities()
        drop_capabilities()
        return [before, capabilities()]

    bind = 1 << 10
    assert Child(child).result() == [
        {"CapInh": bind, "CapPrm": bind, "CapEff": bind, "CapAmb": bind},
        {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0},
    ]


@root_only
def test_root_keeps_its_capabilities() -> None:
    def child() -> bool:
        before = capabilities()
        drop_capabilities()
        return capabilities() == before

    assert Child(child).result()


def test_no_core_is_dumped(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    if most == 0:
        pytest.skip("no process may dump a core here")

    def child() -> None:
        os.chdir(tmp_path)
        # A shell starts what runs in its background with this signal ignored.
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))
        forbid_inspection()
        os.kill(os.getpid(), signal.SIGQUIT)

    status = Child(child).wait()
    assert os.WTERMSIG(status) == signal.SIGQUIT
    assert not os.WCOREDUMP(status)


def test_others_of_the_same_user_cannot_look_into_it() -> None:
    asked, asking = os.pipe()
    told, telling = os.pipe()

    def child() -> bool:
        os.close(asking)
        become_nobody()
        forbid_inspection()
        os.write(telling, b"!")
        return os.read(asked, 1) == b""

    def neighbour(pid: int) -> str:
        os.close(asking)
        become_nobody()
        try:
            Path(f"/proc/{pid}/environ").read_bytes()
        except PermissionError:
            return "refused"
        return "let in"

    hidden = Child(child)
    os.read(told, 1)
    assert Child(lambda: neighbour(hidden.pid)).result() == "refused"
    os.close(asking)
    assert hidden.result()
    for descriptor in (asked, told, telling):
        os.close(descriptor)


def become_nobody() -> None:
    if os.geteuid() == 0:
        os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
        # The change of user has made it so; as after an exec:
        assert LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0


def become_nobody_who_may_bind_ports() -> None:
    """As under a unit with User= and AmbientCapabilities=CAP_NET_BIND_SERVICE."""
    assert LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
    become_nobody()
    header = struct.pack("=Ii", 0x20080522, 0)
    assert LIBC.capset(header, struct.pack("=6I", *[1 << CAP_NET_BIND_SERVICE] * 3, 0, 0, 0)) == 0
    raised = LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0)
    assert raised == 0


def capabilities() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":\t") for line in lines if line.startswith("Cap"))
    return {name: int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
