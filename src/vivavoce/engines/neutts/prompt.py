"""The prompt: what a voice said, what is to be said, and the voice's codes to go on from.

``header  reference text  [emotion]  text  middle  reference codes``, all as ids: the 65,536
speech tokens are never searched for in a string. The text comes before the reference codes, so
only header and reference text are the same for every text of a voice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vivavoce.engines.neutts.backbone import Codes, Prompt, Vocabulary
from vivavoce.errors import ModelFileError


@dataclass(frozen=True, slots=True)
class Reference:
    """What the voice said, as the model reads it (phonemes or text), and its codes (T,) int32."""

    text: str = ""
    codes: Codes = field(default_factory=lambda: np.zeros(0, np.int32))


def lay_out(
    vocabulary: Vocabulary, reference: Reference, text: str, emotion: str | None = None
) -> Prompt:
    """The prompt for ``text``; ``emotion`` is a special token's name that takes a space's place.

    Reference and text are tokenized as one string, as in training. ``shared_prefix`` covers the
    header, and the reference text where its own tokens begin that string's.
    Raises ModelFileError for a token the model lacks, InputError for codes out of range.
    """
    header = vocabulary.header_ids
    own = vocabulary.tokenize(reference.text) if reference.text else ()
    said = _said(vocabulary, own, reference.text, text, emotion)
    shared = len(header) + len(own) if said[: len(own)] == own else len(header)
    codes = vocabulary.speech_ids(reference.codes)
    return Prompt((*header, *said, *vocabulary.middle_ids, *codes), shared)


def _said(
    vocabulary: Vocabulary, own: tuple[int, ...], before: str, text: str, emotion: str | None
) -> tuple[int, ...]:
    if emotion is not None:
        token = vocabulary.token_id(emotion)
        if token is None:
            raise ModelFileError(f"The model has no token {emotion}.")
        return (*own, token, *vocabulary.tokenize(text))
    return vocabulary.tokenize(f"{before} {text}" if before else text)
