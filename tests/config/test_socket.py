"""Where the outbound server listens for the machine's sendmail."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfsmtp.config import ConfigError, Outbound, load

TEXT = """
role = "outbound"
hostname = "out.example.org"
[queue]
directory = "queue"
[listen]
smtp = ["127.0.0.1:25"]
"""


@pytest.fixture(autouse=True)
def away_from_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


def socket_of(directory: Path, lines: str = "") -> Path | None:
    path = directory / "out.toml"
    path.write_text(TEXT + lines)
    config = load(path)
    assert isinstance(config, Outbound)
    return config.listen.sendmail


def test_there_is_none_where_nobody_has_made_a_place_for_it(tmp_path: Path) -> None:
    assert socket_of(tmp_path) is None


@pytest.mark.parametrize("value", ["/run/pfsmtp-out", "/run/pfsmtp-out:/run/other"])
def test_it_is_in_the_directory_that_systemd_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", value)
    assert socket_of(tmp_path) == Path("/run/pfsmtp-out/sendmail")


def test_the_file_stands_before_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/pfsmtp-out")
    assert socket_of(tmp_path, 'sendmail = "other/socket"') == tmp_path / "other" / "socket"


def test_an_inbound_server_has_none_whatever_systemd_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/pfsmtp")
    inbound = TEXT.replace("outbound", "inbound").replace(
        '[queue]\ndirectory = "queue"', '[local]\nusers = "users"\nmaildir = "{login}"'
    )
    path = tmp_path / "in.toml"
    path.write_text(inbound)
    assert load(path).role == "inbound"
    path.write_text(inbound + 'sendmail = "socket"')
    with pytest.raises(ConfigError, match=r"\[listen\] sendmail: .*outbound"):
        load(path)


def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[listen\] sendmail: .* 107 octets or less"):
        socket_of(tmp_path, f'sendmail = "/{"x" * 107}"')
    assert socket_of(tmp_path, f'sendmail = "/{"x" * 106}"') is not None
