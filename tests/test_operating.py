"""docs/operating.md speaks of things that are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pfsmtp.config import Config, Outbound, load
from pfsmtp.process import errors
from pfsmtp.process.master import Master
from tests import needs

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
UNITS = sorted(path.name for path in (ROOT / "conf").glob("*.s[eo][rc]*"))


def section(heading: str) -> str:
    _, _, rest = TEXT.partition(f"\n## {heading}\n")
    assert rest, heading
    return rest.partition("\n## ")[0]


ITS_LOG = section("The outbound server").partition("\n### Its log\n")[2].partition("\n### ")[0]


def first_cells(text: str) -> list[str]:
    """The first cells of a table's rows, without its head."""
    return re.findall(r"^\| (?!Event|Signal|Status|---)(.*?) \|", text, re.MULTILINE)


def test_every_event_it_names_is_logged_somewhere() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pfsmtp").rglob("*.py"))
    cells = first_cells(section("Logs")) + first_cells(ITS_LOG)
    events = re.findall(r"`([a-z-]+)`", "".join(cells))
    assert len(events) > 35
    assert [event for event in events if f'"{event}"' not in code] == []


def test_every_signal_it_names_has_a_handler() -> None:
    names = ", ".join(first_cells(section("Signals"))).split(", ")
    assert sorted(names) == sorted(["HUP", "TERM", "INT", "QUIT", "USR1", "TTIN", "TTOU"])
    assert all(hasattr(Master, f"handle_{name.lower()}") for name in names)


def test_every_exit_status_it_names_is_the_masters() -> None:
    assert [int(cell) for cell in first_cells(section("Exit status"))] == [
        0,
        errors.LOAD_FAILED,
        errors.BOOT_FAILED,
        errors.BUG,
    ]


def shown(role: str, directory: Path) -> Config:
    """The configuration that it shows for this role."""
    inbound, outbound = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    path = directory / f"{role}.toml"
    text = {"inbound": inbound, "outbound": outbound}[role]
    path.write_text(f'role = "{role}"\n{text}', encoding="utf-8")
    return load(path)


@pytest.mark.parametrize(
    ("role", "ports"), [("inbound", [25, 25, 465, 465]), ("outbound", [25, 25])]
)
def test_the_configuration_it_shows_loads(role: str, ports: list[int], tmp_path: Path) -> None:
    listen = shown(role, tmp_path).listen
    assert [address.port for address in (*listen.smtp, *listen.smtps)] == ports


def test_the_outbound_server_keeps_its_mail_where_its_unit_lets_it(tmp_path: Path) -> None:
    config = shown("outbound", tmp_path)
    unit = (ROOT / "conf" / "pfsmtp-outbound.service").read_text(encoding="utf-8")
    (name,) = re.findall(r"^StateDirectory=(\S+)$", unit, re.MULTILINE)
    assert isinstance(config, Outbound)
    assert config.queue.directory.is_relative_to(f"/var/lib/{name}")


def test_the_renewal_hook_is_a_shell_script() -> None:
    (hook,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", TEXT, re.DOTALL)
    subprocess.run(["sh", "-n"], input=hook, text=True, check=True)


@pytest.mark.parametrize("name", ["pfsmtp-inbound.service", "pfsmtp-outbound.service"])
def test_the_unit_waits_longer_for_the_end_than_the_server(name: str) -> None:
    unit = (ROOT / "conf" / name).read_text(encoding="utf-8")
    (wait,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    (config,) = re.findall(r"^ExecStart=\S+ -c /etc/pfsmtp/(\S+)$", unit, re.MULTILINE)
    assert int(wait) > load(ROOT / "conf" / config).workers.drain


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        unit = (ROOT / "conf" / name).read_text(encoding="utf-8")
        # It looks whether the program is there.
        (tmp_path / name).write_text(unit.replace("/opt/pfsmtp/bin/pfsmtp", "/bin/true"))
    done = subprocess.run(
        [
            needs.tool("systemd-analyze", package="systemd"),
            "verify",
            *(str(tmp_path / name) for name in UNITS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
