"""What takes minutes: all that is compiled under sanitizers and checks, and fuzzing by coverage."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.figures import Show
from tests.fuzz.campaign import fuzz
from tests.fuzz.targets import TARGETS
from tests.fuzz.variant import built, run, variant

SECONDS = 120
"""For which each target is fuzzed."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def covered() -> Iterator[Path]:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris (pip install '.[fuzz]')")
    needs.tool("clang", package="clang libclang-rt-14-dev")
    with built(variant("covered").building) as copy:
        yield copy


@pytest.mark.parametrize("target", TARGETS)
def test_fuzzing_finds_no_input_that_fails(target: str, covered: Path, show: Show) -> None:
    found = fuzz(covered, target, seconds=SECONDS)
    show(f"Fuzzing: {target}", [found.line])
    assert found.failure == ""
    assert found.runs > 1000


@pytest.mark.parametrize("name", ["sanitized", "checked"])
def test_what_is_compiled_passes_its_tests_when_built_to_be_checked(name: str) -> None:
    needs.tool("gcc")
    assert run(name) == 0
