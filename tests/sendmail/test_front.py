"""The compiled front of sendmail, under both names: what it hands over, and leaves to Python."""

from __future__ import annotations

import io
import os
import pwd
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from pfsmtp import __version__ as pfsmtp_version
from pfsmtp.sendmail import options, request
from pfsmtp.sendmail.message import read_message, with_line_feeds
from tests import needs

from .front import DEADLINE, ROOT, SOURCE, Counterpart, build, environment

Done = subprocess.CompletedProcess[bytes]

# In the place of Python: shows what it was given, and what is on stdin.
SHOW = '#!/bin/sh\nfor word; do printf "%s|" "$word"; done\ncat\n'


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("front"), python=SHOW)


@pytest.fixture(scope="module")
def pfsmtp(front: Path) -> Path:
    """The front as it is typed."""
    return build(front.parent, "pfsmtp", python=SHOW)


def run(front: Path, submit: str | Path, *arguments: str, octets: bytes = b"") -> Done:
    return subprocess.run(
        [front, *arguments],
        input=octets,
        capture_output=True,
        env=environment(submit),
        timeout=DEADLINE,
    )


def handed_over(
    front: Path, path: Path, *arguments: str, octets: bytes = b"", answer: bytes = b"\0"
) -> tuple[Done, Counterpart]:
    with Counterpart(path, answer).listening() as counterpart:
        return run(front, path, *arguments, octets=octets), counterpart


# -- what is handed over


def test_the_server_is_given_user_command_line_and_message(
    front: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "Ann, Dr.")
    monkeypatch.setenv("LOGNAME", "ann")
    arguments = ("-i", "-f", "", "-F", "J\u00f6rg", "bob@y", "--", "-x")
    text = bytes(range(256)) * 1000
    done, server = handed_over(front, tmp_path / "s", *arguments, octets=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    entry = pwd.getpwuid(os.getuid())
    user = [entry.pw_name, entry.pw_gecos, "Ann, Dr.", "ann"]
    assert server.strings == [*user, str(front), *arguments]
    assert server.message == text
    version, length = request.PACKET.unpack(server.packet)
    assert version == request.VERSION
    assert length == len("\0".join(server.strings).encode()) + 1


@pytest.mark.parametrize("status", [0, 67, 75, 78, 254])
def test_it_ends_as_the_server_says_and_tells_what_it_tells(
    front: Path, tmp_path: Path, status: int
) -> None:
    text = b"sendmail: because \xc3\xa9\n" * 500
    done, _ = handed_over(front, tmp_path / "s", "bob@y", answer=bytes([status]) + text)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", text)


def test_a_server_that_breaks_off_is_tried_again_later(front: Path, tmp_path: Path) -> None:
    done, _ = handed_over(front, tmp_path / "s", "bob@y", answer=b"")
    assert done.returncode == os.EX_TEMPFAIL
    assert b"broke off, and may have the message or not" in done.stderr
    assert done.stdout == b"", "Python would send it a second time"


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_server_that_is_full_is_heard(
    front: Path, tmp_path: Path, when: Literal["at once", "later"]
) -> None:
    with Counterpart(tmp_path / "s", b"\x4bsendmail: full\n", full=when).listening():
        done = run(front, tmp_path / "s", "bob@y", octets=b"text\n")
    assert (done.returncode, done.stdout, done.stderr) == (75, b"", b"sendmail: full\n")


DOTS = [
    b"",
    b".",
    b"\n",
    b".\n",
    b".\r\n",
    b".\r",
    b"..\n",
    b"a\n.\nb\n",
    b"a\r\n.\r\nb\r\n",
    b"a\n.",
    b"a\n.\r",
    b"a\n.\rb\n.\n",
    b"a\n.b\n..\n. \n.\r\r\nc",
    b"a.\n\n.\n.\n",
    b"a\r.\rb\n",
    b"\n\n\n.\nx",
    b"x" * 70_000 + b"\n.\nrest",
    b"x" * 65_535 + b"\n.\nrest",
    b"x" * 65_534 + b"\n.\r\nrest",
]


@pytest.mark.parametrize("text", DOTS, ids=range(len(DOTS)))
@pytest.mark.parametrize("arguments", [(), ("-i",), ("-oi",), ("-to", "i"), ("-Gi", "-m")])
def test_a_lone_dot_ends_a_message_where_it_does_for_python(
    front: Path, tmp_path: Path, text: bytes, arguments: tuple[str, ...]
) -> None:
    _, server = handed_over(front, tmp_path / "s", *arguments, "bob@y", octets=text)
    dot_ends = options.parse(["sendmail", *arguments]).dot_ends
    expected = read_message(io.BufferedReader(io.BytesIO(text)), dot_ends=dot_ends)
    assert with_line_feeds(server.message) == expected


@pytest.mark.parametrize("text", [b"hello\n.\n", b"hello\r\n.\r\n"])
def test_a_dot_ends_a_message_while_stdin_is_open_however_it_comes(
    front: Path, tmp_path: Path, text: bytes
) -> None:
    path = tmp_path / "s"
    with (
        Counterpart(path, b"\0").listening() as server,
        subprocess.Popen([front, "bob@y"], stdin=subprocess.PIPE, env=environment(path)) as process,
    ):
        assert process.stdin is not None
        for octet in text:
            process.stdin.write(bytes([octet]))
            process.stdin.flush()
        assert process.wait(DEADLINE) == 0
    assert server.message == text.partition(b".")[0]


# -- what is left to Python


@pytest.mark.parametrize(
    "arguments",
    [
        "-bs",
        "-bp",
        "-b p",
        "-bi",
        "-bx bob@y",
        "-I",
        "-q",
        "-qIABC",
        "-v bob@y",
        "-ov bob@y",
        "-iv bob@y",
        "-C file bob@y",
        "-Cfile bob@y",
        "-c file bob@y",
        "-y bob@y",
        "-f",
        "-i",
        "",
    ],
)
def test_what_takes_more_than_a_message_is_for_python(
    front: Path, tmp_path: Path, arguments: str
) -> None:
    words = shlex.split(arguments)
    done, server = handed_over(front, tmp_path / "s", *words, octets=b"a\n.\nb\n")
    assert done.stdout.decode() == "|".join(["sendmail", *words, "a\n.\nb\n"])
    assert server.packet == b""


@pytest.mark.parametrize(("name", "mode"), [("mailq", "-bp"), ("newaliases", "-bi")])
def test_other_names_are_other_modes(front: Path, tmp_path: Path, name: str, mode: str) -> None:
    link = tmp_path / name
    link.symlink_to(front)
    done = run(link, tmp_path / "s", "-x")
    assert done.stdout.decode() == f"sendmail|{mode}|-x|"


@pytest.mark.parametrize(
    "submit", ["/nowhere/socket", "127.0.0.1:25,{path}", f"/{'x' * 200}", "{directory}"]
)
def test_without_a_server_at_the_socket_python_is_given_the_message(
    front: Path, tmp_path: Path, submit: str
) -> None:
    path = tmp_path / "s"
    submit = submit.format(path=path, directory=tmp_path)
    with Counterpart(path, b"\0").listening() as server:
        done = run(front, submit, "bob@y", octets=b"text\n")
    assert done.stdout == b"sendmail|bob@y|text\n"
    assert server.packet == b""


def test_a_socket_that_nobody_listens_at_is_as_none(front: Path, tmp_path: Path) -> None:
    with Counterpart(tmp_path / "s", b"").listening():
        pass
    done = run(front, f"{tmp_path / 's'},127.0.0.1:25", "bob@y", octets=b"text\n.\nrest")
    assert done.stdout == b"sendmail|bob@y|text\n"


def test_a_server_that_declines_leaves_the_message_to_python(front: Path, tmp_path: Path) -> None:
    text = b"x" * 3_000_000
    done, server = handed_over(
        front, tmp_path / "s", "-i", "bob@y", octets=text, answer=request.ELSEWHERE
    )
    assert done.stdout == b"sendmail|-i|bob@y|" + text
    assert server.message == text


@pytest.mark.parametrize("closed", ["<&-", "2>&-", ">&-"])
def test_a_descriptor_that_is_closed_is_for_python(
    front: Path, tmp_path: Path, closed: str
) -> None:
    with Counterpart(tmp_path / "s", b"\0").listening() as server:
        subprocess.run(
            ["sh", "-c", f'"$0" bob@y {closed}', front],
            stdin=subprocess.DEVNULL,
            env=environment(tmp_path / "s"),
            timeout=DEADLINE,
        )
    assert server.packet == b""


@pytest.mark.parametrize(
    ("name", "who", "status"),
    [("pfsmtp-sendmail", "sendmail", os.EX_OSFILE), ("pfsmtp", "pfsmtp", 1)],
)
def test_a_missing_python_program_is_told(tmp_path: Path, name: str, who: str, status: int) -> None:
    alone = build(tmp_path, name)
    alone.with_name("pfsmtp-python").unlink()
    done = subprocess.run(
        [alone, "bob@y"], input=b"", capture_output=True, env={**environment("/none"), "PATH": "/"}
    )
    assert done.returncode == status
    missing = f"{who}: {tmp_path}/pfsmtp-python: No such file or directory; install pfsmtp again"
    assert done.stderr.decode().startswith(missing)


def test_a_copy_finds_the_python_program_on_the_path(front: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sendmail"
    copy.write_bytes(front.read_bytes())
    copy.chmod(0o755)
    path = f"{front.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [copy, "-v", "bob@y"],
        input=b"a\n",
        capture_output=True,
        env={**environment(""), "PATH": path},
    )
    assert done.stdout == b"sendmail|-v|bob@y|a\n"


# -- typed as `pfsmtp`


def test_pfsmtp_sendmail_hands_over_without_python(pfsmtp: Path, tmp_path: Path) -> None:
    arguments = ("-f", "", "bob@y")
    done, server = handed_over(
        pfsmtp, tmp_path / "s", "sendmail", *arguments, octets=b"text\n.\nrest"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert server.strings[4:] == ["sendmail", *arguments]
    assert server.message == b"text\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "''",
        "--version",
        "-c x",
        "-c x --check",
        "-c x queue list",
        "-c x sendmail bob@y",
        "-cx sendmail bob@y",
        "--config=x sendmail bob@y",
        "-t bob@y",
        "bob@y",
        "sendmai bob@y",
        "sendmails bob@y",
        "Sendmail bob@y",
        "-- sendmail bob@y",
        "sendmail",
        "sendmail -bp",
        "sendmail -bs",
        "sendmail -C x bob@y",
        "sendmail -v bob@y",
        "sendmail --help",
        "sendmail -y '' 'a b' '*' '|'",
    ],
)
def test_pfsmtp_with_anything_else_is_python_with_the_same_arguments(
    pfsmtp: Path, tmp_path: Path, arguments: str
) -> None:
    words = shlex.split(arguments)
    done, server = handed_over(pfsmtp, tmp_path / "s", *words, octets=b"a\n.\nb\n")
    assert done.stdout.decode() == "|".join([*words, "a\n.\nb\n"])
    assert server.packet == b""


def test_pfsmtp_sendmail_without_a_server_at_the_socket_is_python(
    pfsmtp: Path, tmp_path: Path
) -> None:
    done = run(pfsmtp, tmp_path / "none", "sendmail", "bob@y", octets=b"text\n")
    assert done.stdout == b"sendmail|bob@y|text\n"


@pytest.mark.parametrize("name", ["sendmail", "mailq", "mx"])
def test_pfsmtp_is_pfsmtp_whatever_it_is_called(pfsmtp: Path, tmp_path: Path, name: str) -> None:
    link = tmp_path / name
    link.symlink_to(pfsmtp)
    assert run(link, tmp_path / "none", "-c", "x").stdout == b"-c|x|"
    done, server = handed_over(link, tmp_path / "s", "sendmail", "bob@y")
    assert (done.returncode, server.strings[4:]) == (0, ["sendmail", "bob@y"])


def test_pfsmtp_becomes_python_in_the_same_process_and_touches_no_descriptor(
    tmp_path: Path,
) -> None:
    """As a service manager wants it, who knows the process and passes sockets on."""
    program = build(tmp_path, "pfsmtp", python="#!/bin/sh\necho $$ $LISTEN_PID\ncat <&3\n")
    (tmp_path / "file").write_text("passed on\n")
    command = 'LISTEN_PID=$$ exec "$0" -c x 3<"$1"'
    done = subprocess.run(
        ["sh", "-c", command, program, tmp_path / "file"],
        capture_output=True,
        text=True,
        env=environment(""),
        timeout=DEADLINE,
    )
    pids, passed = done.stdout.splitlines()
    assert len(set(pids.split())) == 1
    assert passed == "passed on"


# -- what cannot be done


def test_stdin_that_cannot_be_read_is_told(front: Path, tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with Counterpart(tmp_path / "s", b"\0").listening() as server:
        done = subprocess.run(
            [front, "bob@y"], stdin=directory, capture_output=True, env=environment(tmp_path / "s")
        )
    os.close(directory)
    assert done.returncode == os.EX_IOERR
    assert done.stderr == b"sendmail: stdin cannot be read: Is a directory\n"
    assert server.packet == b""


def test_a_message_that_cannot_be_kept_is_told(front: Path, tmp_path: Path) -> None:
    with Counterpart(tmp_path / "s", b"\0").listening() as server:
        done = subprocess.run(
            [front, "bob@y"],
            input=b"x" * 100_000,
            capture_output=True,
            env=environment(tmp_path / "s"),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        )
    assert done.returncode == os.EX_TEMPFAIL
    assert done.stderr == b"sendmail: the message cannot be kept in memory: File too large\n"
    assert server.packet == b""


# -- what is written twice


def test_it_knows_the_options_of_python() -> None:
    (known,) = re.findall(r'OPTIONS\[\] = "\+([^"]+)"', SOURCE.read_text())
    found = dict(re.findall(r"(\w)(:*)", known))
    assert sorted(letter for letter in found if not found[letter]) == sorted(options._WITHOUT_VALUE)
    assert sorted(letter for letter in found if found[letter] == ":") == sorted(options._WITH_VALUE)
    assert "".join(letter for letter in found if found[letter] == "::") == (
        options._WITH_VALUE_ATTACHED
    )


def test_it_looks_for_the_socket_where_the_unit_has_it() -> None:
    (path,) = re.findall(r'DEFAULT_SOCKET\[\] = "([^"]+)"', SOURCE.read_text())
    unit = (ROOT / "conf" / "pfsmtp-outbound.service").read_text()
    (name,) = re.findall(r"^RuntimeDirectory=(\S+)$", unit, re.MULTILINE)
    assert path == f"/run/{name}/sendmail"


def installed(name: str) -> Path:
    """A program that stands beside the interpreter, if this tree is installed there."""
    program = Path(sys.executable).parent / name
    if not program.exists():
        needs.lacking(f"needs {name} beside the interpreter (pip install -e .)")
    return program


@pytest.mark.parametrize("name", ["pfsmtp", "pfsmtp-sendmail"])
def test_it_is_what_is_installed(name: str) -> None:
    assert installed(name).read_bytes()[:4] == b"\x7fELF"


def test_it_is_installed_with_the_program_that_it_becomes() -> None:
    done = subprocess.run(
        [installed("pfsmtp"), "--version"], capture_output=True, text=True, env={}, timeout=DEADLINE
    )
    assert (done.stdout, done.stderr) == (f"pfsmtp {pfsmtp_version}\n", "")
    done = subprocess.run([installed("pfsmtp")], capture_output=True, text=True, env={})
    assert done.returncode == 2
    assert done.stderr.startswith("usage: pfsmtp -c FILE")
