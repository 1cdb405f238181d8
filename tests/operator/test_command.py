"""`pfsmtp -c FILE queue …` as a whole: for whom it works, and what it says when it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pfsmtp import cli
from tests import needs
from tests.operator.conftest import Post, environment
from tests.running.program import write_toml

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")


@pytest.fixture
def nobody() -> tuple[str, ...]:
    """What makes a command nobody's."""
    needs.interpreter(NOBODY)
    return NOBODY


def test_the_inbound_server_has_no_queue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "inbound.toml"
    write_toml(
        config,
        {
            "role": "inbound",
            "hostname": "mx.example.org",
            "listen": {"smtp": ["127.0.0.1:2525"]},
            "local": {"users": "users", "maildir": "mail/{login}"},
        },
    )
    assert cli.main(["-c", str(config), "queue", "list"]) == 1
    assert capsys.readouterr().err == (
        f'pfsmtp: {config}: role = "inbound" has no queue;'
        " name the outbound server's file with -c\n"
    )


def test_a_configuration_that_cannot_be_used_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["-c", str(tmp_path / "none.toml"), "queue", "summary"]) == 1
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["lost"], ["show"], ["list", "--no-such"]])
def test_wrong_usage_has_its_own_status(queue: Post, arguments: list[str]) -> None:
    answer = queue(*arguments)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith("usage: pfsmtp ")


def test_whoever_reads_may_stop_at_any_time(queue: Post) -> None:
    queue.put(*[f"user@{number}.example" for number in range(2000)])
    for arguments in ([], ["--json"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "pfsmtp", "-c", queue.config, "queue", "list", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
        process.stderr.close()


@pytest.mark.parametrize("recipients", [1, 500])
def test_an_output_that_is_full_is_not_the_fault_of_the_queue(queue: Post, recipients: int) -> None:
    queue.put(*[f"bob@{number}.example" for number in range(recipients)])
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pfsmtp", "-c", queue.config, "queue", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"pfsmtp: the output cannot be written: No space left on device\n"


def open_to_all(post: Post, *, mode: int) -> None:
    """Let others find the queue, and read what is in it."""
    for above in (post.config.parent, *post.config.parent.parents):
        if not (mode_above := above.stat().st_mode) & 0o001:
            above.chmod(mode_above | 0o011)
    post.config.chmod(0o644)
    for each in [post.directory, *post.directory.rglob("*")]:
        each.chmod(mode | 0o111 if each.is_dir() else mode)


@as_root
def test_it_is_enough_to_be_allowed_to_read(queue: Post, nobody: tuple[str, ...]) -> None:
    id = queue.put(*[f"user{number}@example.org" for number in range(200)])
    open_to_all(queue, mode=0o644)
    for arguments in (["list"], ["summary"], ["show", id, "--body"], ["list", "--json"]):
        done = queue.run(*arguments, prefix=nobody)
        assert (done.returncode, done.stderr) == (0, b""), arguments
        assert b"example.org" in done.stdout


@as_root
def test_who_may_not_is_told_who_may(queue: Post, nobody: tuple[str, ...]) -> None:
    id = queue.put("bob@example.org")
    open_to_all(queue, mode=0o644)
    done = queue.run("delete", id, prefix=nobody)
    remedy = b"; do this as root, whose queue it is, or as root\n"
    assert done.returncode == 1
    assert done.stderr == b"pfsmtp: the queue in %s: Permission denied%s" % (
        bytes(queue.directory),
        remedy,
    )
    assert queue("show", id).status == 0
    queue.directory.chmod(0o700)
    done = queue.run("list", prefix=nobody)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.endswith(remedy)


@as_root
def test_root_leaves_the_queue_to_whose_it_is(queue: Post) -> None:
    ids = [queue.put("bob@example.org") for _ in range(5)]
    for each in [queue.directory, *queue.directory.rglob("*")]:
        os.chown(each, 65534, 65534)
    for command, id in zip(("retry", "hold", "bounce", "delete", "release"), ids, strict=True):
        queue(command, id)
    owners = {each.stat().st_uid for each in [queue.directory, *queue.directory.rglob("*")]}
    assert owners == {65534}


def test_a_long_queue_is_summed_up_in_no_time(queue: Post) -> None:
    for _ in range(4):
        queue.put(*[f"user@{number}.example" for number in range(500)])
    begun = time.process_time()
    assert queue("summary").out.startswith("2000 messages for 500 destinations")
    assert time.process_time() - begun < 0.5  # 30 ms where nothing else is done
