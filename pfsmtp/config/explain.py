"""Turns what msgspec says about a value into what the operator can do about it.

msgspec says ``Expected `int` >= 1 - at `$.limits.recipients` ``; the operator reads ``[limits]
recipients: 0 is not in range; write a whole number, 1 or more``. Only ever run for a file that is
refused, so it may look types up at leisure.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pfsmtp.config.schema import Inbound, Outbound, Section
from pfsmtp.config.units import quote

Step = str | int
"""A step of the way to a value: a key, or the place in a list, counted from 0."""

_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<place>.*)`)?\Z", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`\Z", re.DOTALL)

_ROLES: dict[object, type[Section]] = {"inbound": Inbound, "outbound": Outbound}


def explain(error: msgspec.ValidationError, raw: dict[str, Any]) -> str:
    """Return a sentence of where, what and remedy."""
    found = _PLACE.match(str(error))
    assert found is not None  # the pattern matches anything
    what, place = found["what"], found["place"] or ""
    way: list[Step] = [key or int(index) for key, index in _STEP.findall(place)]
    if field := _FIELD.match(what):
        way.append(field[2])
        problem = _unknown if field[1] == "contains unknown" else _missing
        return f"{_where(way)}: {problem(way, raw)}"
    if error.__cause__ is not None:  # one of our own kinds of value has found the words
        return f"{_where(way)}: {what}"
    if way == ["role"]:
        return f"role: {quote(raw['role'])} is not a role; {_ROLE_REMEDY}"
    remedy = _remedy(_type_at(way, _ROLES[raw["role"]]), way)
    return f"{_where(way)}: {quote(_value_at(way, raw))} will not do; {remedy}"


_ROLE_REMEDY = 'write role = "inbound" or role = "outbound"'


def _where(way: Sequence[Step]) -> str:
    """`[listen] smtp, entry 2`, as the operator finds it in the file."""
    *sections, key = [step for step in way if isinstance(step, str)]
    entry = "".join(f", entry {step + 1}" for step in way if isinstance(step, int))
    if sections:
        return f"[{'.'.join(sections)}] {key}{entry}"
    is_section = any(_is_section(_type_at(way, config)) for config in _ROLES.values())
    return f"[{key}]" if is_section else key


def _unknown(way: Sequence[Step], raw: dict[str, Any]) -> str:
    section, key = way[:-1], str(way[-1])
    config = _ROLES[raw["role"]]
    known = _keys(_type_at(section, config))
    if close := difflib.get_close_matches(key, known, n=1):
        return f"there is no such key; did you mean {close[0]}?"
    for role, other in _ROLES.items():
        if other is not config and key in _keys(_type_at(section, other)):
            return f'it is for role = "{role}" only; remove it'
    for name, kind in typing.get_type_hints(config).items():
        if key in _keys(kind):
            return f"there is no such key here; it belongs under [{name}]"
    return f"there is no such key; there are {', '.join(known)}"


def _missing(way: Sequence[Step], raw: dict[str, Any]) -> str:
    if way == ["role"]:
        return f"it is missing; {_ROLE_REMEDY}"
    kind = _type_at(way, _ROLES[raw["role"]])
    if _is_section(kind):
        return "the section is missing; add it"
    return f"it is missing; {_remedy(kind, way)}"


def _remedy(kind: Any, way: Sequence[Step]) -> str:
    """What to write where a value of this type is wanted."""
    key = way[-1]
    bare = _without_none(kind)
    origin = typing.get_origin(bare)
    if origin is typing.Annotated:
        return f"write {_number(bare)}"
    if origin is typing.Literal:
        return "write " + " or ".join(f'"{choice}"' for choice in typing.get_args(bare))
    if origin is tuple:
        return f"write a list, in brackets: {key} = [ … ]"
    if _is_section(bare):
        return f"it is a section; write [{key}], and its keys in the lines below"
    if bare is bool:
        return "write true or false"
    if bare is Path or issubclass(bare, str):
        return f'write text in quotes: {key} = "…"'
    return f"write {key} = …"


def _number(kind: Any) -> str:
    number, meta = typing.get_args(kind)
    name = "a whole number" if number is int else "a number"
    if meta.le is None:
        return f"{name}, {meta.ge} or more"
    return f"{name} from {meta.ge} to {meta.le}"


def _keys(kind: Any) -> list[str]:
    """The keys of a section; none where the type is of anything else."""
    if not _is_section(kind):
        return []
    keys = list(kind.__struct_fields__)
    return ["role", *keys] if kind in _ROLES.values() else keys


def _type_at(way: Sequence[Step], config: type[Section]) -> Any:
    """The type of the value there, as annotated; None where this kind of config has no such key."""
    kind: Any = config
    for step in way:
        if isinstance(step, int):
            kind = typing.get_args(_without_none(kind))[0]
        elif _is_section(kind):
            kind = typing.get_type_hints(kind, include_extras=True).get(step)
    return kind


def _value_at(way: Sequence[Step], raw: dict[str, Any]) -> Any:
    value: Any = raw
    for step in way:
        value = value[step]
    return value


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
