"""docs/configuration.md has every key of the structs, no other, and the defaults are true."""

from __future__ import annotations

import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pfsmtp.config.schema import CertificatePair, Inbound, Outbound, Section
from pfsmtp.config.units import Written

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
TOP = "At the top, before any section"

# What the program works out, and the text explains beside it.
WORKED_OUT = {("", "hostname"), ("tls", "certificate"), ("tls", "key"), ("listen", "sendmail")}

_HEADING = re.compile(r"#{2,3} (.*)")
_ROW = re.compile(r"\| `(\w+)` \| (.*?) \| (.*) \|")

Keys = dict[tuple[str, str], str]


def documented() -> Keys:
    """The default that is shown for each (section, key)."""
    keys: Keys = {}
    section = None
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if heading := _HEADING.fullmatch(line):
            section = "" if heading[1] == TOP else heading[1].strip("[]")
        elif row := _ROW.fullmatch(line):
            assert section is not None
            assert (section, row[1]) not in keys
            keys[section, row[1]] = row[2]
    return keys


def fields(struct: type[Section], section: str) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Type and default for each (section, key), and for those of the sections within."""
    found: dict[tuple[str, str], tuple[Any, Any]] = {}
    hints = typing.get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        kind = hints[field.name]
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= fields(kind, f"{section}.{field.name}".lstrip("."))
        else:
            found[section, field.name] = kind, field.default
    return found


SCHEMA = (
    fields(Inbound, "")
    | fields(Outbound, "")
    | fields(CertificatePair, "tls.more")
    | {("", "role"): (str, msgspec.NODEFAULT)}
)


def read(kind: type[Written], value: object) -> object:
    return kind.parse(value)


def test_every_key_is_documented_and_no_other() -> None:
    assert set(documented()) == set(SCHEMA)


@pytest.mark.parametrize("key", sorted(SCHEMA), ids=".".join)
def test_the_default_that_is_shown_is_true(key: tuple[str, str]) -> None:
    shown = documented()[key]
    kind, default = SCHEMA[key]
    if key in WORKED_OUT:
        assert shown in ("*this machine's*", "*see right*")
    elif default is msgspec.NODEFAULT:
        assert shown == "*required*"
    elif default is None:
        assert shown == "*none*"
    else:
        value = tomllib.loads(f"value = {shown.strip('`')}")["value"]
        assert msgspec.convert(value, kind, dec_hook=read) == default


@pytest.mark.parametrize("key", sorted(SCHEMA), ids=".".join)
def test_what_is_for_one_server_only_says_so(key: tuple[str, str]) -> None:
    inbound = key in fields(Inbound, "")
    outbound = key in fields(Outbound, "")
    if inbound != outbound and key[0] != "tls.more" and key[1] != "role":
        section, name = key
        text = DOCUMENT.read_text(encoding="utf-8")
        start = text.index(f"\n## [{section.partition('.')[0]}]" if section else f"\n## {TOP}")
        introduction, _, table = text[start:].partition("| Key ")
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}` "))
        words = "**Inbound only" if inbound else "**Outbound only"
        assert words in introduction or words in row


def test_the_files_that_are_shipped_show_true_defaults_too() -> None:
    """A value in conf/ that is a default has to be the real one."""
    for role in ("inbound", "outbound"):
        text = (DOCUMENT.parents[1] / "conf" / f"{role}.toml").read_text(encoding="utf-8")
        raw = tomllib.loads(text)
        for section, key in (("workers", "processes"), ("workers", "connections")):
            assert raw[section][key] == SCHEMA[section, key][1]
        assert raw["log"]["format"] == SCHEMA["log", "format"][1]
