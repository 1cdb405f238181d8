"""The command line: which command is meant, and how little is imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pfsmtp
from pfsmtp import cli
from pfsmtp.sendmail import command as sendmail

ROOT = Path(pfsmtp.__file__).parents[1]
# Dear to import, and no use to `pfsmtp sendmail`.
HEAVY = {"argparse", "pathlib", "typing", "re", "dataclasses", "msgspec", "pfsmtp.config"}


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What `pfsmtp.sendmail.command` is run with."""
    runs: list[list[str]] = []

    def run(argv: list[str]) -> int:
        runs.append(argv)
        return 75

    monkeypatch.setattr(sendmail, "main", run)
    return runs


@pytest.mark.parametrize(
    ("arguments", "argv"),
    [
        (["sendmail"], ["sendmail"]),
        (["sendmail", "-t", "-i"], ["sendmail", "-t", "-i"]),
        (["sendmail", "--", "-c"], ["sendmail", "--", "-c"]),
        (["-c", "f.toml", "sendmail", "a@b"], ["sendmail", "-C", "f.toml", "a@b"]),
        (["-cf.toml", "sendmail"], ["sendmail", "-C", "f.toml"]),
        (["--config", "f.toml", "sendmail", "-bp"], ["sendmail", "-C", "f.toml", "-bp"]),
        (["--config=f.toml", "sendmail"], ["sendmail", "-C", "f.toml"]),
        (["-c", "sendmail", "sendmail"], ["sendmail", "-C", "sendmail"]),
    ],
)
def test_sendmail_is_handed_all_that_is_its_own(
    arguments: list[str], argv: list[str], handed: list[list[str]]
) -> None:
    assert cli.main(arguments) == 75
    assert handed == [argv]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "f.toml", "--check", "sendmail"],
        ["--check", "-c", "f.toml", "sendmail", "-t"],
        ["-c", "f.toml", "lost"],
        ["--check"],
        [],
    ],
)
def test_anything_else_is_wrong_usage(
    arguments: list[str], handed: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert capsys.readouterr().err.startswith("usage: pfsmtp ")
    assert handed == []


def test_a_file_may_be_called_like_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-c", "sendmail", "--check"]) == 1
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", [[], ["-c", "f.toml"]])
def test_next_to_nothing_is_imported_for_sendmail(prefix: list[str]) -> None:
    program = (
        f"import sys; from pfsmtp import cli; status = cli.main({[*prefix, 'sendmail', '-Z']!r});"
        " print(*sys.modules); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        cwd=ROOT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 64, done.stderr
    assert HEAVY.isdisjoint(done.stdout.split())
