"""The configuration files that come with the program load, and are as alike as they say."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from pfsmtp.config import Inbound, Outbound, load
from pfsmtp.policy.users import UserMap
from pfsmtp.smtp.address import Mailbox

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"


@pytest.mark.parametrize("name", ["inbound.toml", "outbound.toml"])
def test_a_shipped_file_loads_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(CONF / name).role == name.removesuffix(".toml")


def test_inbound_keeps_everything_under_var() -> None:
    config = load(CONF / "inbound.toml")
    assert isinstance(config, Inbound)
    assert config.tls.certificate == ROOT / "var/tls/cert.pem"
    assert config.tls.key == ROOT / "var/tls/key.pem"
    assert config.local.users == CONF / "users"
    assert config.local.maildir == str(ROOT / "var/mail/{login}")
    assert config.log.file is None


def test_outbound_keeps_everything_under_var() -> None:
    config = load(CONF / "outbound.toml")
    assert isinstance(config, Outbound)
    assert config.queue.directory == ROOT / "var/queue"
    assert config.log.file is None


@pytest.mark.parametrize(
    ("local_part", "domain", "login"),
    [
        ("alice", "example.org", "alice"),
        ("Alice.Liddell", "example.org", "alice"),
        ("alice+anything", "example.org", "alice"),
        ("bob", "EXAMPLE.ORG", "bob"),
        ("postmaster", "example.org", "alice"),
        ("postmaster", "", "alice"),
        ("carol", "example.org", None),
        ("bob", "example.net", None),
    ],
)
def test_the_shipped_users_are_who_the_file_says(
    local_part: str, domain: str, login: str | None
) -> None:
    assert UserMap.load(CONF / "users").login(Mailbox(local_part, domain)) == login


def test_the_shipped_catch_all_works_once_it_is_no_comment(tmp_path: Path) -> None:
    path = tmp_path / "users"
    text = (CONF / "users").read_text(encoding="utf-8")
    path.write_text(text.replace("# bob :", "bob :"), encoding="utf-8")
    assert UserMap.load(path).login(Mailbox("anybody", "example.net")) == "bob"


def test_both_run_side_by_side_as_any_user() -> None:
    listened = [
        address
        for name in ("inbound.toml", "outbound.toml")
        for address in (*load(CONF / name).listen.smtp, *load(CONF / name).listen.smtps)
    ]
    ports = [address.port for address in listened]
    assert sorted(set(ports)) == [2525, 2526, 4465]
    assert len(set(listened)) == len(listened)
    assert {address.is_ipv6 for address in listened if address.port == 2526} == {True, False}


def test_the_two_are_alike_but_for_the_delivery() -> None:
    inbound, outbound = (
        tomllib.loads((CONF / name).read_text(encoding="utf-8"))
        for name in ("inbound.toml", "outbound.toml")
    )
    assert set(inbound) - set(outbound) == {"local", "tls"}
    assert set(outbound) - set(inbound) == {"queue", "relay"}
    assert inbound["workers"] == outbound["workers"]
    assert inbound["log"] == outbound["log"]


@pytest.mark.parametrize("name", ["inbound.toml", "outbound.toml"])
def test_the_lines_that_are_commented_out_would_load_too(name: str, tmp_path: Path) -> None:
    shutil.copy(CONF / "users", tmp_path)
    text = (CONF / name).read_text(encoding="utf-8")
    for key in ("hostname", "user", "postmaster", "file"):
        text = text.replace(f"# {key} ", f"{key} ")
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    config = load(path)
    assert config.user == "pfsmtp"
    assert config.log.file is not None
