"""The prompt's layout, against one written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from engines.neutts.stubs import StubVocabulary
from vivavoce.engines.neutts.family import NANO, TWO_E
from vivavoce.engines.neutts.prompt import Reference, lay_out
from vivavoce.errors import ModelFileError

VOCABULARY = StubVocabulary(NANO)
REFERENCE = Reference("ab.", np.array([7, 8], np.int32))


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def test_the_text_comes_before_the_codes() -> None:
    prompt = lay_out(VOCABULARY, REFERENCE, "cd.")
    codes = VOCABULARY.speech_ids([7, 8])
    assert prompt.ids == (1, 2, *ids("ab. cd."), 3, 4, 5, *codes)
    assert prompt.shared_prefix == 2 + 3


def test_without_a_reference_only_the_header_is_shared() -> None:
    prompt = lay_out(VOCABULARY, Reference(), "cd.")
    assert prompt.ids == (1, 2, *ids("cd."), 3, 4, 5)
    assert prompt.shared_prefix == 2


def test_an_emotion_takes_the_place_of_the_space() -> None:
    vocabulary = StubVocabulary(TWO_E)
    happy = vocabulary.token_id("<|HAPPY|>")
    prompt = lay_out(vocabulary, REFERENCE, "cd.", "<|HAPPY|>")
    assert prompt.ids[2:9] == (*ids("ab."), happy, *ids("cd."))
    with pytest.raises(ModelFileError):
        lay_out(vocabulary, REFERENCE, "cd.", "<|BORED|>")


def test_a_prefix_that_its_text_merges_with_is_not_shared() -> None:
    class Merging(StubVocabulary):
        def tokenize(self, text: str) -> tuple[int, ...]:
            return (99, *super().tokenize(text[5:])) if text.startswith("ab. c") else ids(text)

    assert lay_out(Merging(), REFERENCE, "cd.").shared_prefix == 2
