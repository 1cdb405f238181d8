"""Where the server is looked for, and which domain is ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pfsmtp.sendmail import site as module
from pfsmtp.sendmail.failure import Failure
from pfsmtp.sendmail.site import DEFAULT_SERVERS, find

CONFIG = """
role = "outbound"
hostname = "out.example.com"
[listen]
smtp = ["127.0.0.1:3526", "[::1]:3527"]
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has neither configuration nor mail name, but for what a test gives it."""
    monkeypatch.setattr(module, "CONFIG", str(tmp_path / "outbound.toml"))
    monkeypatch.setattr(module, "MAILNAME", str(tmp_path / "mailname"))
    return tmp_path


def test_the_shipped_addresses_are_the_default() -> None:
    site = find(None, {})
    assert site.servers == DEFAULT_SERVERS == (("127.0.0.1", 2526), ("::1", 2526))
    assert site.domain == os.uname().nodename


def test_the_configuration_of_the_machine_names_server_and_domain(machine: Path) -> None:
    (machine / "outbound.toml").write_text(CONFIG)
    site = find(None, {})
    assert site.servers == (("127.0.0.1", 3526), ("::1", 3527))
    assert site.domain == "out.example.com"


def test_the_environment_stands_before_the_configuration_of_the_machine(machine: Path) -> None:
    (machine / "outbound.toml").write_text("this is not read")
    site = find(None, {"PFSMTP_SUBMIT": "127.0.0.1:25, [::1]:26"})
    assert site.servers == (("127.0.0.1", 25), ("::1", 26))


def test_a_configuration_that_is_given_stands_before_all(machine: Path) -> None:
    given = machine / "given.toml"
    given.write_text(CONFIG)
    site = find(str(given), {"PFSMTP_SUBMIT": "127.0.0.1:25"})
    assert site.servers[0] == ("127.0.0.1", 3526)


def test_a_configuration_without_addresses_has_the_default(machine: Path) -> None:
    (machine / "outbound.toml").write_text('role = "outbound"\n')
    assert find(None, {}).servers == DEFAULT_SERVERS


def test_the_mail_name_of_the_machine_is_the_domain(machine: Path) -> None:
    (machine / "outbound.toml").write_text(CONFIG)
    (machine / "mailname").write_text("example.com\n")
    assert find(None, {}).domain == "example.com"


@pytest.mark.parametrize("content", [b"", b"\xff\n"])
def test_a_mail_name_that_is_none_is_passed_over(machine: Path, content: bytes) -> None:
    (machine / "mailname").write_bytes(content)
    assert find(None, {}).domain == os.uname().nodename


@pytest.mark.parametrize(
    "content",
    [
        "not = = toml",
        "listen = 3",
        "[listen]\nsmtp = 3",
        '[listen]\nsmtp = ["localhost"]',
        '[listen]\nsmtp = ["127.0.0.1:x"]',
        '[listen]\nsmtp = [":25"]',
    ],
)
def test_a_configuration_that_cannot_be_used_says_which(machine: Path, content: str) -> None:
    path = machine / "bad.toml"
    path.write_text(content)
    with pytest.raises(Failure, match=r"bad\.toml") as failure:
        find(str(path), {})
    assert failure.value.status == os.EX_CONFIG


def test_a_configuration_that_is_given_and_missing_is_an_error(machine: Path) -> None:
    with pytest.raises(Failure, match="No such file") as failure:
        find(str(machine / "none.toml"), {})
    assert failure.value.status == os.EX_CONFIG


def test_an_environment_that_cannot_be_used_says_so() -> None:
    with pytest.raises(Failure, match="PFSMTP_SUBMIT") as failure:
        find(None, {"PFSMTP_SUBMIT": "localhost"})
    assert failure.value.status == os.EX_CONFIG
