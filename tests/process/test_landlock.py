"""A process that has confined itself can do what it was given, and nothing else."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pfsmtp.process import landlock
from pfsmtp.process.landlock import Access
from pfsmtp.process.privileges import forbid_new_privileges
from tests import needs
from tests.process.forked import Child

ABI = landlock.abi()
FILED = Access.READ_FILE | Access.READ_DIR | Access.WRITE_FILE | Access.MAKE_REG


def of(abi: int) -> int:
    """An ABI to be confined under, which this kernel must have."""
    needs.landlock(abi)
    return abi


def confined(
    call: Callable[[], object],
    files: dict[Path, Access] | None = None,
    *,
    connect: Iterable[int] = (),
    abi: int = ABI,
) -> object:
    """What `call` returns in a child that is confined."""

    def child() -> object:
        forbid_new_privileges()
        landlock.confine(files or {}, connect=connect, abi=abi)
        return call()

    return Child(child).result()


def error_of(call: Callable[[], object]) -> str:
    """The name of the error that a call ends with, or that it ends well."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def tried(*calls: Callable[[], object]) -> Callable[[], list[str]]:
    """Something for `confined` that tells how each of these ends."""
    return lambda: [error_of(call) for call in calls]


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    of(2)
    directory = tmp_path / "inside"
    directory.mkdir()
    (directory / "file").write_text("content")
    return directory


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "file").write_text("secret")
    return directory


def test_what_was_given_can_be_done(inside: Path) -> None:
    calls = tried(
        lambda: (inside / "file").read_text(),
        lambda: os.listdir(inside),
        lambda: (inside / "made").touch(),
    )
    assert confined(calls, {inside: FILED}) == ["done", "done", "done"]


def test_nothing_else_can_be_read_listed_written_made_or_removed(
    inside: Path, outside: Path
) -> None:
    calls = tried(
        lambda: (outside / "file").read_text(),
        lambda: os.listdir(outside),
        lambda: os.open(outside / "file", os.O_WRONLY),
        lambda: (outside / "made").touch(),
        lambda: (outside / "made").mkdir(),
        lambda: (outside / "made").symlink_to("file"),
        lambda: os.mkfifo(outside / "made"),
        lambda: (outside / "file").unlink(),
        lambda: outside.rmdir(),
    )
    assert set(confined(calls, {inside: FILED})) == {"EACCES"}  # type: ignore[call-overload]


def test_each_right_is_given_by_itself(inside: Path) -> None:
    calls = tried(
        lambda: os.open(inside / "new", os.O_WRONLY | os.O_CREAT, 0o600),
        lambda: (inside / "file").read_text(),
        lambda: (inside / "file").unlink(),
    )
    given = {inside: Access.WRITE_FILE | Access.MAKE_REG}
    assert confined(calls, given) == ["done", "EACCES", "EACCES"]


def test_what_may_be_read_and_written_is_not_run(inside: Path) -> None:
    shutil.copy("/bin/true", inside)
    libraries = {Path(path): FILED for path in ("/usr", "/lib", "/lib64", "/etc")}
    call = tried(lambda: os.execv(inside / "true", ["true"]))
    assert confined(call, {inside: FILED, **libraries}) == ["EACCES"]


def test_a_link_inside_leads_nowhere(inside: Path, outside: Path) -> None:
    (inside / "link").symlink_to(outside / "file")
    assert confined(tried((inside / "link").read_text), {inside: FILED}) == ["EACCES"]


def test_a_way_up_leads_nowhere(inside: Path, outside: Path) -> None:
    way = inside / ".." / "outside" / "file"
    directory = os.open(inside, os.O_PATH)
    calls = tried(way.read_text, lambda: os.open("../outside/file", os.O_RDONLY, dir_fd=directory))
    assert confined(calls, {inside: FILED}) == ["EACCES", "EACCES"]
    os.close(directory)


def test_a_file_can_be_moved_between_directories_that_are_given(inside: Path) -> None:
    for name in ("tmp", "new"):
        (inside / name).mkdir()
    (inside / "tmp" / "file").touch()
    given = {inside: FILED | Access.REFER | Access.REMOVE_FILE}
    calls = tried(
        lambda: os.link(inside / "tmp" / "file", inside / "new" / "linked"),
        lambda: os.rename(inside / "tmp" / "file", inside / "new" / "file"),
    )
    assert confined(calls, given) == ["done", "done"]


def test_a_file_cannot_be_moved_out(inside: Path, outside: Path) -> None:
    given = {inside: FILED | Access.REFER | Access.REMOVE_FILE}
    call = tried(lambda: os.rename(inside / "file", outside / "moved"))
    assert confined(call, given) == ["EACCES"]


def test_a_file_by_itself_is_given_without_its_directory(inside: Path) -> None:
    (inside / "other").touch()
    calls = tried((inside / "file").read_text, (inside / "other").read_text)
    assert confined(calls, {inside / "file": FILED}) == ["done", "EACCES"]


def test_a_link_that_is_given_stands_for_what_it_leads_to(inside: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(inside)
    assert confined(tried((inside / "file").read_text), {tmp_path / "link": FILED}) == ["done"]


def test_what_does_not_exist_is_not_given_and_no_error(inside: Path, tmp_path: Path) -> None:
    late = tmp_path / "late"
    (inside / "file").rename(inside / "late")
    calls = tried(lambda: os.rename(inside, late), late.read_text)
    assert confined(calls, {late: FILED}) == ["EACCES", "ENOENT"]


def test_what_is_open_already_stays_usable(inside: Path, outside: Path) -> None:
    with (outside / "file").open() as file:
        assert confined(file.read, {inside: FILED}) == "secret"


def test_threads_and_children_are_confined_too(inside: Path, outside: Path) -> None:
    def call() -> list[str]:
        ended: list[str] = []
        look = tried((outside / "file").read_text)
        thread = threading.Thread(target=lambda: ended.extend(look()))
        thread.start()
        thread.join()
        return ended + Child(look).result()  # type: ignore[no-any-return]

    assert confined(call, {inside: FILED}) == ["EACCES", "EACCES"]


def test_a_process_with_threads_is_refused() -> None:
    def child() -> str:
        going = threading.Event()
        thread = threading.Thread(target=going.wait)
        thread.start()
        try:
            landlock.confine({}, abi=ABI)
        except RuntimeError as error:
            return str(error)
        finally:
            going.set()
            thread.join()
        return "confined"

    of(2)
    assert Child(child).result() == "other threads would not be confined"


def test_it_takes_a_process_that_gains_no_new_privileges() -> None:
    def child() -> str:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        return error_of(lambda: landlock.confine({}, abi=ABI))

    of(2)
    assert Child(child).result() == "EPERM"


@pytest.mark.parametrize("flags", [os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_TRUNC])
def test_what_may_be_written_is_not_emptied(inside: Path, flags: int) -> None:
    call = tried(lambda: os.open(inside / "file", flags))
    assert confined(call, {inside: FILED}, abi=of(3)) == ["EACCES"]


def test_what_may_only_be_read_is_not_emptied(inside: Path) -> None:
    call = tried(lambda: os.truncate(inside / "file", 0))
    assert confined(call, {inside: Access.READ_FILE}, abi=of(3)) == ["EACCES"]


def test_no_tcp_port_can_be_bound() -> None:
    def bound() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))

    assert confined(tried(bound), abi=of(4)) == ["EACCES"]


def test_a_socket_that_listens_already_still_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accepted() -> bool:
            with listener.accept()[0] as sock:
                return sock.recv(1) == b"!"

        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"!")
            assert confined(accepted, abi=of(4))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_go_to_the_ports_that_are_given(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as given,
        socket.create_server((host, 0), family=family) as other,
    ):

        def connect(listener: socket.socket) -> Callable[[], None]:
            address = listener.getsockname()[:2]
            return lambda: socket.create_connection(address).close()

        calls = tried(connect(given), connect(other))
        ports = [given.getsockname()[1]]
        assert confined(calls, connect=ports, abi=of(4)) == ["done", "EACCES"]


def test_a_device_is_not_commanded() -> None:
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)

    def size() -> None:
        with open(name, "rb", buffering=0) as terminal:
            fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8))

    assert confined(tried(size), {Path(name): FILED}, abi=of(5)) == ["EACCES"]
    os.close(ours)
    os.close(theirs)


def test_who_is_not_confined_with_it_is_neither_signalled_nor_traced() -> None:
    parent = os.getpid()

    calls = tried(
        lambda: os.kill(os.getpid(), signal.SIGWINCH),
        lambda: os.kill(parent, signal.SIGWINCH),
        lambda: attach(parent),
    )
    assert confined(calls, abi=of(6)) == ["done", "EPERM", "EPERM"]


def test_abstract_sockets_of_others_are_out_of_reach() -> None:
    address = f"\0pfsmtp-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(address)
        listener.listen()
        assert confined(tried(lambda: client.connect(address)), abi=of(6)) == ["EPERM"]


@pytest.mark.parametrize("abi", range(2, ABI + 1))
def test_any_version_since_the_second_confines_files(inside: Path, outside: Path, abi: int) -> None:
    calls = tried((inside / "file").read_text, (outside / "file").read_text)
    assert confined(calls, {inside: ~Access(0)}, connect=[25], abi=abi) == ["done", "EACCES"]


@pytest.mark.parametrize("abi", [0, 1])
def test_without_a_version_that_serves_nothing_is_confined(outside: Path, abi: int) -> None:
    assert confined(tried((outside / "file").read_text), abi=abi) == ["done"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_kernel_without_it_has_version_0(code: int) -> None:
    def child() -> int:
        refuse_system_call(444, code)
        return landlock.abi()

    assert Child(child).result() == 0


def test_a_version_that_does_not_do_what_it_says_is_an_error() -> None:
    def child() -> str:
        version = landlock.abi()
        refuse_system_call(446, errno.EPERM)
        return error_of(lambda: landlock.confine({}, abi=version))

    of(2)
    assert Child(child).result() == "EPERM"


@pytest.mark.parametrize(
    ("abi", "lacking"),
    [
        (0, ["files", "truncation", "tcp", "devices", "signals"]),
        (1, ["files", "truncation", "tcp", "devices", "signals"]),
        (2, ["truncation", "tcp", "devices", "signals"]),
        (4, ["devices", "signals"]),
        (6, []),
        (9, []),
    ],
)
def test_what_a_version_lacks_is_said(abi: int, lacking: list[str]) -> None:
    assert landlock.lacking(abi) == lacking


def attach(pid: int) -> None:
    """Trace another process (ptrace(2), PTRACE_SEIZE)."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.restype = ctypes.c_long
    if ptrace(ctypes.c_long(0x4206), ctypes.c_int(pid), None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def refuse_system_call(number: int, code: int) -> None:
    """Have a system call fail from now on, as a filter or an older kernel would."""
    forbid_new_privileges()
    # Load the number, compare; the error if it is that one, else go on (seccomp(2)).
    program = struct.pack("=HBBI", 0x20, 0, 0, 0)
    program += struct.pack("=HBBI", 0x15, 0, 1, number)
    program += struct.pack("=HBBI", 0x06, 0, 0, 0x00050000 | code)
    program += struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(program)
    filtered = struct.pack("@HP", 4, ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong)
    assert prctl(22, 2, filtered, 0, 0) == 0, os.strerror(ctypes.get_errno())
