"""The configuration under test: a file that says the same, and nothing real is left in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import asdict

from pfsmtp.config import Config, Inbound, Outbound, load
from pfsmtp.crashtest.settings import for_inbound, for_outbound, users, write_users
from pfsmtp.crashtest.writing import as_toml
from pfsmtp.policy.users import UserMap
from pfsmtp.smtp.address import Mailbox

CONF = Path(__file__).parents[2] / "conf"

EVERYTHING_INBOUND = """
role = "inbound"
hostname = "mx.example.org"
user = "root"
[listen]
smtp = ["0.0.0.0:25", "[::]:25"]
smtps = ["0.0.0.0:465"]
[tls]
certificate = "real.pem"
key = "real.key"
[[tls.more]]
certificate = "more.pem"
key = "more.key"
[workers]
processes = 3
drain = "1.5 s"
[local]
users = "real"
maildir = "/real/{login}/Maildir"
separator = ""
sync = "filesystem"
[limits]
message_size = "10 MB"
greeting_delay = "0 s"
data = "2.25 min"
[log]
format = "logfmt"
file = "/real/log"
"""

EVERYTHING_OUTBOUND = """
role = "outbound"
hostname = "out.example.org"
postmaster = "postmaster@example.org"
[listen]
smtp = ["127.0.0.1:25"]
smtps = ["[::1]:465"]
[tls]
certificate = "real.pem"
key = "real.key"
[workers]
deliverers = 2
[queue]
directory = "/real/queue"
[relay]
host = "smtp.example.org:587"
credentials = "/real/password"
nameserver = ["192.0.2.1:53"]
rate = 1
connections = 3
[schedule]
jitter = 0.25
expire = "1 s"
delay_notice = "1 s"
[schedule.timeouts]
final_dot = "33 s"
"""


@pytest.fixture(params=["inbound.toml", "outbound.toml", EVERYTHING_INBOUND, EVERYTHING_OUTBOUND])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """The configurations that are shipped, and some in which nothing is as it is by default."""
    text = str(request.param)
    if "\n" not in text:
        return load(CONF / text)
    path = tmp_path / "everything.toml"
    path.write_text(text)
    return load(path)


def reread(config: Config, directory: Path) -> Config:
    path = directory / "written.toml"
    path.write_text(as_toml(config))
    return load(path)


def changed(config: Config, site: Path) -> Config:
    match config:
        case Inbound():
            return for_inbound(config, site, ["127.0.0.1", "127.0.0.2"], port=1111, tls_port=2222)
        case Outbound():
            return for_outbound(
                config, site, "127.0.0.1", port=1111, tls_port=2222, relay_port=3333
            )


def test_what_is_written_is_read_as_it_was(config: Config, tmp_path: Path) -> None:
    assert reread(config, tmp_path) == config


def test_a_changed_configuration_can_be_written_and_read(config: Config, tmp_path: Path) -> None:
    site = tmp_path / "a place"
    assert reread(changed(config, site), tmp_path) == changed(config, site)


def test_every_path_and_address_is_of_the_test(config: Config, tmp_path: Path) -> None:
    site = tmp_path / "site"
    found = changed(config, site)
    text = as_toml(found)
    for real in ("real", "example.org:587", "192.0.2.1", "0.0.0.0", "postmaster@", "/var/", "::"):
        assert real not in text
    assert found.log.file == site / "server.log"
    assert {address.port for address in found.listen.smtp} == {1111}
    if isinstance(found, Inbound):
        assert found.local.users == site / "users"
        assert found.local.maildir == str(site / "mail/{login}")
    else:
        assert found.queue.directory == site / "queue"
        assert found.relay.host is None
        assert found.relay.port == 3333


def test_all_else_is_as_the_operator_has_it(config: Config, tmp_path: Path) -> None:
    found = changed(config, tmp_path)
    for name in ("hostname", "user", "group", "workers", "limits"):
        assert getattr(found, name) == getattr(config, name)
    if isinstance(config, Inbound):
        assert isinstance(found, Inbound)
        assert found.local.sync == config.local.sync
    else:
        assert isinstance(found, Outbound)
        assert found.relay.connections == config.relay.connections
        assert asdict(found.schedule)["timeouts"] == asdict(config.schedule)["timeouts"]


def test_tls_is_offered_where_it_was(config: Config, tmp_path: Path) -> None:
    found = changed(config, tmp_path)
    assert (found.tls.certificate is None) == (config.tls.certificate is None)
    assert bool(found.listen.smtps) == bool(config.listen.smtps)


def test_mail_is_not_given_up_while_it_is_tested(config: Config, tmp_path: Path) -> None:
    found = changed(config, tmp_path)
    if isinstance(found, Outbound):
        assert found.schedule.expire > 3600
        assert not found.schedule.delay_notice
        assert found.schedule.retries[0] <= 1


def test_the_users_can_be_read(tmp_path: Path) -> None:
    addresses = users(3)
    write_users(tmp_path / "users", addresses)
    known = UserMap.load(tmp_path / "users")
    assert known.logins == tuple(addresses)
    for login, address in addresses.items():
        local_part, _, domain = address.partition("@")
        assert known.login(Mailbox(local_part, domain)) == login
        assert known.login(Mailbox(local_part, "[127.0.0.1]")) == login
