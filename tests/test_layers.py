"""The house: which room may know which, and how large a room's files may be.

Imports go strictly down, wherever they stand: in a function or for type checking as well.
Neighbours, rooms of one layer, do not know each other. Each compiled module is imported by one
module, its door.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pfsmtp"
LONGEST_FILE = 450  # lines

LAYERS = (
    ("process", "config", "log", "durable"),
    ("smtp",),
    ("net", "resolver", "tls", "message"),
    ("delivery", "mailqueue", "policy", "sendmail"),
    ("roles",),
    ("compose", "crashtest", "operator"),
    ("cli",),
    ("__main__",),
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}


class Import(NamedTuple):
    """One module names another, both by their full names."""

    importer: str
    line: int
    imported: str

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The first name within the package; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def imports(source: str, importer: str) -> Iterator[Import]:
    """What a module imports of this package, wherever it says so."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                imported = [name.name for name in names]
            case ast.ImportFrom(module="pfsmtp", names=names, level=0):
                imported = [f"pfsmtp.{name.name}" for name in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                # `from room import module` names the module, if that is what it is.
                imported = [f"{module}.{name.name}" for name in names]
            case ast.ImportFrom(names=names):
                raise AssertionError(f"{importer}:{node.lineno} has a relative import")
            case _:
                continue
        for name in imported:
            if name.partition(".")[0] == "pfsmtp":
                yield Import(importer, node.lineno, name)


def goes_down(found: Import) -> bool:
    """Whether an import stays in its room, or goes to a lower layer."""
    here, there = room(found.importer), room(found.imported)
    if here == there or there not in LAYER:  # the package's own names, such as its version
        return True
    return LAYER[there] < LAYER.get(here, 0)


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [found for path in FILES for found in imports(path.read_text(), module_name(path))]


def test_every_room_has_a_layer() -> None:
    assert {room(module_name(path)) for path in FILES} <= {"", *LAYER}


def test_imports_go_strictly_down() -> None:
    assert [str(found) for found in IMPORTS if not goes_down(found)] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import pfsmtp.roles.receiver",
        "from pfsmtp.roles import receiver",
        "from pfsmtp import roles",
        "from pfsmtp.policy.users import UserMap",
        "def f():\n    from pfsmtp.compose.service import MailService",
        "if TYPE_CHECKING:\n    from pfsmtp.cli import main",
        "try:\n    import ssl, pfsmtp.mailqueue\nexcept ImportError:\n    pass",
    ],
)
def test_imports_that_go_up_or_aside_are_seen(statement: str) -> None:
    (found,) = imports(statement, "pfsmtp.delivery.maildir")
    assert not goes_down(found)


@pytest.mark.parametrize(
    "statement",
    [
        "import pfsmtp.smtp.reply",
        "from pfsmtp.delivery.maildir.names import new_name",
        "from pfsmtp import durable",
        "from pfsmtp import __version__",
    ],
)
def test_imports_that_go_down_are_not(statement: str) -> None:
    (found,) = imports(statement, "pfsmtp.delivery.maildir")
    assert goes_down(found)


def test_each_compiled_module_has_one_door() -> None:
    compiled = {module_name(path) for path in PACKAGE.rglob("_*.pyi")}
    doors = defaultdict(set)
    for found in IMPORTS:
        for module in compiled:
            if found.imported == module or found.imported.startswith(f"{module}."):
                doors[module].add(found.importer)
    assert compiled
    assert {module: sorted(doors[module]) for module in compiled if len(doors[module]) != 1} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_one_can_hold_in_the_head(path: Path) -> None:
    assert path.read_text().count("\n") <= LONGEST_FILE
