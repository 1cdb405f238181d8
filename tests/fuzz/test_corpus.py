"""What fuzzing has found is played again: it reaches into corners that no other test does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_is_still_taken_as_it_should_be(target: str) -> None:
    inputs = corpus.load(target)
    assert inputs
    for octets in inputs:
        TARGETS[target](octets)


def test_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    inputs = [bytes(range(256)), b"\\n\n", b"", b"\xe4\r\n.\r\n"]
    corpus.save("target", inputs, tmp_path)
    assert sorted(corpus.load("target", tmp_path)) == sorted(inputs)


@pytest.mark.parametrize("target", TARGETS)
@given(octets=st.binary(max_size=200))
@settings(max_examples=100)
def test_noise_is_taken_as_it_should_be(target: str, octets: bytes) -> None:
    TARGETS[target](octets)
