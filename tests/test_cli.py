"""The command line, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pfsmtp import __version__
from tests.certificates import ecdsa_key, key_pem

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pfsmtp", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "users").write_text("alice : alice@example.org\n")
    path = tmp_path / "in.toml"
    path.write_text(
        'role = "inbound"\nhostname = "mx.example.org"\n'
        '[listen]\nsmtp = ["127.0.0.1:0"]\n'
        '[tls]\ncertificate = "cert.pem"\nkey = "key.pem"\n'
        '[local]\nusers = "users"\nmaildir = "mail/{login}"\n'
    )
    return path


def test_version_is_told() -> None:
    assert run("--version").stdout == f"pfsmtp {__version__}\n"


@pytest.mark.parametrize("name", ["inbound.toml", "outbound.toml"])
def test_shipped_configuration_passes_the_check(name: str) -> None:
    checked = run("-c", ROOT / "conf" / name, "--check")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.endswith("OK\n")


def test_check_leaves_nothing_behind(config: Path) -> None:
    before = sorted(config.parent.rglob("*"))
    assert run("-c", config, "--check").returncode == 0
    assert sorted(config.parent.rglob("*")) == before


def test_check_finds_what_is_wrong_with_the_users(config: Path) -> None:
    (config.parent / "users").write_text("alice alice@example.org\n")
    checked = run("-c", config, "--check")
    assert checked.returncode == 1
    assert f"{config.parent / 'users'}:1" in checked.stderr
    assert "Traceback" not in checked.stderr


def test_check_finds_what_is_wrong_with_a_certificate(config: Path) -> None:
    (config.parent / "cert.pem").write_text("nonsense\n")
    (config.parent / "key.pem").write_bytes(key_pem(ecdsa_key()))
    checked = run("-c", config, "--check")
    assert checked.returncode == 1
    assert str(config.parent / "cert.pem") in checked.stderr


def test_without_a_configuration_the_usage_is_told() -> None:
    called = run()
    assert called.returncode == 2
    assert "-c FILE" in called.stderr


def test_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    called = run("-c", tmp_path / "none.toml")
    assert called.returncode == 1
    assert str(tmp_path / "none.toml") in called.stderr
    assert "Traceback" not in called.stderr


@pytest.mark.parametrize("name", ["inbound.toml", "outbound.toml"])
def test_start_waits_for_no_import_that_can_come_later(name: str) -> None:
    relaying = {"dns", "pfsmtp.delivery.relay", "pfsmtp.resolver"}
    later = relaying | {"pfsmtp.crashtest", "pfsmtp.operator"}
    code = (
        "import sys; from pfsmtp.cli import main;"
        f"main(['-c', 'conf/{name}', '--check']); print(sorted({later} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stdout.splitlines()[1:] == ["[]"], done.stderr
