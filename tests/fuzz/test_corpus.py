"""What fuzzing has found is played again: it reaches into corners that no other test does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_is_still_taken_as_it_should_be(target: str) -> None:
    files = sorted((CORPUS / target).iterdir())
    assert files
    for file in files:
        TARGETS[target](file.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
@given(octets=st.binary(max_size=200))
@settings(max_examples=100)
def test_noise_is_taken_as_it_should_be(target: str, octets: bytes) -> None:
    TARGETS[target](octets)
