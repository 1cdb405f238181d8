"""Fuzz all targets for a while, over extensions that are built for it.

    python -m tests.fuzz.campaign SECONDS [--keep] [TARGET …]

Each target begins with its corpus. An input that fails is shown, and the exit status is 1. With
`--keep`, the corpus becomes the smallest that reaches all that was reached.

Needs atheris (pip install '.[fuzz]') and clang with its run-time (apt install clang
libclang-rt-14-dev).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS, name_of
from tests.fuzz.variant import built, variant

_LONGEST = 400
"""Octets of an input."""


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What came of a target."""

    target: str
    runs: int
    reached: int
    """Edges and features, as libFuzzer counts them."""
    failure: str
    """What it said when an input failed, and the input; "" if none did."""

    @property
    def line(self) -> str:
        return f"{self.target:9} {self.runs:9} runs {self.reached:6} features" + (
            " FAILED" if self.failure else ""
        )


def fuzz(copy: Path, target: str, *, seconds: int) -> Fuzzed:
    """Fuzz one target in a copy that was built for it; what it finds is in `inputs/` there."""
    inputs = copy / "inputs" / target
    inputs.mkdir(parents=True)
    for number, octets in enumerate(corpus.load(target)):
        (inputs / str(number)).write_bytes(octets)
    ran = _run(copy, target, f"-max_total_time={seconds}", inputs)
    said = ran.stderr + ran.stdout
    runs = re.findall(r"^#(\d+)\s", said, re.MULTILINE) or ["0"]
    features = re.findall(r" ft: (\d+) ", said) or ["0"]
    failure = ""
    if ran.returncode:
        failed = [
            f"{file.name}: {file.read_bytes()!r}"
            for kind in ("crash", "timeout", "oom")
            for file in copy.glob(f"{kind}-*")
        ]
        failure = "\n".join([said[-4000:], *failed])
    return Fuzzed(target, int(runs[-1]), int(features[-1]), failure)


def keep(copy: Path, target: str) -> None:
    """Put the smallest corpus that reaches as much into the tree."""
    smallest = copy / "smallest" / target
    smallest.mkdir(parents=True)
    # libFuzzer runs itself for this, by the name that it has been given.
    itself = copy / name_of(target)
    itself.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.fuzz.fuzzing {target} "$@"\n')
    itself.chmod(0o755)
    _run(copy, target, "-merge=1", smallest, copy / "inputs" / target).check_returncode()
    inputs = [file.read_bytes() for file in smallest.iterdir()]
    assert inputs
    corpus.save(target, inputs)


def _run(copy: Path, target: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.fuzzing", target, f"-max_len={_LONGEST}"]
    return subprocess.run(
        [*command, "-timeout=20", "-dict=tests/fuzz/words.dict", *map(str, arguments)],
        cwd=copy,
        env=os.environ | variant("covered").running | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        errors="replace",
    )


def main(seconds: str, *options: str) -> int:
    targets: Sequence[str] = [each for each in options if each in TARGETS] or list(TARGETS)
    failed = False
    with built(variant("covered").building) as copy:
        for target in targets:
            found = fuzz(copy, target, seconds=int(seconds))
            print(found.line, found.failure, sep="\n" if found.failure else "", flush=True)
            failed = failed or bool(found.failure)
            if "--keep" in options and not found.failure:
                keep(copy, target)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
