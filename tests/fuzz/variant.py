"""The tests, run over extensions that are built in another way; in a copy, the tree is left alone.

    python -m tests.fuzz.variant VARIANT [ARGUMENTS OF pytest]

    sanitized   by gcc with AddressSanitizer and UndefinedBehaviorSanitizer; the first error ends it
    checked     by Cython with checks of indices (PFSMTP_CYTHON_CHECKS)
    covered     by clang with both sanitizers, and such that fuzzing sees what is reached

Without arguments these are the tests of everything that is compiled. The copy is in a temporary
directory, and gone afterwards.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

_TREE = (
    *("pfsmtp", "ext", "tests", "conf", "docs"),
    *("setup.py", "pyproject.toml", "README.md", "LICENSE"),
)
_BUILT = shutil.ignore_patterns("*.so", "__pycache__", "build")

COMPILED = (
    "tests/smtp",
    "tests/fuzz/test_server.py",
    "tests/fuzz/test_client.py",
    "tests/net",
    "tests/sendmail/test_front.py",
    "tests/mailqueue/test_intake.py",
    "tests/mailqueue/test_segment.py",
    "tests/mailqueue/test_lease.py",
    "tests/delivery/test_maildir.py",
    "tests/test_durable.py",
    "tests/test_durable_failures.py",
    "tests/test_durable_groups.py",
)
"""Where the compiled modules are tested."""


def _library(name: str) -> str:
    """Where gcc has a library of its own."""
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
    )
    return found.stdout.strip()


def _fuzzer() -> Path:
    """What atheris has beside itself for extensions. Raises FileNotFoundError."""
    atheris = importlib.util.find_spec("atheris")
    if atheris is None or atheris.origin is None:
        raise FileNotFoundError("needs atheris (pip install '.[fuzz]')")
    fuzzer = Path(atheris.origin).parents[1] / "asan_with_fuzzer.so"
    if not fuzzer.exists():
        # A library that is not there is not preloaded, and that is all that is said of it.
        raise FileNotFoundError(fuzzer)
    return fuzzer


@dataclass(frozen=True, slots=True)
class Variant:
    """What is in the environment while it is built, and while it runs."""

    building: dict[str, str]
    running: dict[str, str] = field(default_factory=dict)


def variant(name: str) -> Variant:
    """The variant of that name. Raises KeyError."""
    if name == "sanitized":
        flags = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
        return Variant(
            {"CFLAGS": flags, "LDFLAGS": flags},
            {
                # The interpreter is not built with it, and has leaks of its own.
                "LD_PRELOAD": f"{_library('libasan.so')} {_library('libubsan.so')}",
                "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
                "UBSAN_OPTIONS": "print_stacktrace=1",
                "PYTHONMALLOC": "malloc",
            },
        )
    if name == "covered":
        # Calls without arguments, as Cython writes them, add nothing to a null pointer.
        checks = "-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize=pointer-overflow"
        flags = f"{checks} -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
        return Variant(
            {"CC": "clang", "LDSHARED": f"clang -shared {flags}", "CFLAGS": flags},
            {"LD_PRELOAD": str(_fuzzer()), "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"},
        )
    return {"checked": Variant({"PFSMTP_CYTHON_CHECKS": "1"})}[name]


def copy_sources(target: Path) -> None:
    """Copy what is needed to build and to test, and nothing that has been built."""
    for name in _TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=_built_there)
        else:
            shutil.copy(source, target)


def _built_there(directory: str, names: list[str]) -> set[str]:
    made = {f"{name.removesuffix('.pyx')}.c" for name in names if name.endswith(".pyx")}
    return _BUILT(directory, names) | made


@contextmanager
def built(environment: dict[str, str]) -> Iterator[Path]:
    """A copy of the tree whose extensions are built under this environment."""
    with tempfile.TemporaryDirectory(prefix="pfsmtp-built-") as directory:
        copy = Path(directory)
        copy_sources(copy)
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
            cwd=copy,
            env=os.environ | environment,
            check=True,
        )
        yield copy


def run(name: str, *arguments: str) -> int:
    """Run the tests over a variant, and return pytest's exit status."""
    chosen = variant(name)
    with built(chosen.building) as copy:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *(arguments or COMPILED)],
            cwd=copy,
            env=os.environ | chosen.running | {"PYTHONPATH": str(copy)},
        ).returncode


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
