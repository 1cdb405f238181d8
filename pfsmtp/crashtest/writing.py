"""A configuration as a file: what `config.load` makes of it is the same configuration.

Every key is written, defaults too, so that the file says all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict

from pfsmtp.config import Config, Octets, Seconds, SecondsOrOff


def as_toml(config: Config) -> str:
    """Return the text of a file that says what `config` says."""
    lines = [f"role = {_text(config.role)}", *_section(config, ())]
    return "\n".join(lines) + "\n"


def _section(section: Struct, name: tuple[str, ...]) -> Iterator[str]:
    """Keys first, since what follows a table belongs to it."""
    tables = []
    for key, value in asdict(section).items():
        if isinstance(value, Struct) or (isinstance(value, tuple) and _has_tables(value)):
            tables.append((key, value))
        elif value is not None:
            yield f"{key} = {_value(value)}"
    for key, value in tables:
        path = (*name, key)
        each, brackets = (value, "[[{}]]") if isinstance(value, tuple) else ((value,), "[{}]")
        for table in each:
            yield brackets.format(".".join(path))
            yield from _section(table, path)


def _has_tables(values: tuple[object, ...]) -> bool:
    return any(isinstance(value, Struct) for value in values)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Seconds() | SecondsOrOff():
            return _text(f"{_plain(value)} s")
        case Octets():
            return _text(f"{value:d} B")
        case float():
            return _plain(value)
        case int():
            return str(value)
        case str() | Path():
            return _text(str(value))
        case tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            raise TypeError(f"{value!r} is nothing that a configuration holds")


def _plain(number: float) -> str:
    """Without an exponent, which is not read."""
    text = f"{number:.9f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
