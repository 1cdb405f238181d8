"""Fuzz one of `targets`, driven by coverage (atheris).

    python -m tests.fuzz.fuzzing TARGET [ARGUMENTS OF libFuzzer]

Coverage of the Python modules is had as they are imported; that of the compiled ones only if they
are built for it (`variant`, covered).
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["pfsmtp.smtp"]):
    from tests.fuzz.targets import TARGETS, name_of


def main(target: str, *arguments: str) -> None:
    atheris.Setup([name_of(target), *arguments], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
