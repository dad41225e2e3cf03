"""The tokens of a NeuTTS GGUF file, all in the original's ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from vivavoce.engines.neutts.backbone import SPEECH_CODES, Codes
from vivavoce.engines.neutts.family import (
    FAMILIES,
    FIRST_SPEECH,
    LAST_SPEECH,
    SPEECH_END,
    Family,
    find_family,
)
from vivavoce.engines.neutts.gguf.llama_model import LlamaModel
from vivavoce.engines.neutts.gguf.metadata import GgufHeader, read_header
from vivavoce.errors import InputError, ModelFileError

INPUT_FORMAT = "neuphonic.input_format"
REMEMBERED = 64
"""Texts whose tokens are kept, so that a voice's transcript is not tokenized for each utterance:
llama.cpp looks for each of 65,536 speech tokens in every text, which takes 1 to 2 ms."""

EMOTIONS = "neuphonic.supported_emotions"
ARCHITECTURE = "general.architecture"


class GgufVocabulary:
    """A model's tokens. Opens the file without its weights; ``close`` gives the memory back.

    ``path`` is the original file, not a pruned copy: that one cannot tokenize. Raises
    ModelFileError for a file that is damaged, of another architecture, or without speech tokens.
    """

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        if header.text(ARCHITECTURE) not in FAMILIES:
            find_family(header.text(ARCHITECTURE) or "", bool)
        self._model = LlamaModel(path, vocab_only=True)
        self._tokens = lru_cache(REMEMBERED)(self._tokenized)
        try:
            self.family = _family(header, self._model)
            self._resolve(path)
        except ModelFileError:
            self.close()
            raise

    def close(self) -> None:
        """Give the memory back; only the ids remain usable."""
        self._model.close()

    @property
    def rows(self) -> int:
        """How many tokens there are."""
        return self._model.rows

    @property
    def header_ids(self) -> tuple[int, ...]:
        """What comes before the text, BOS included where the model wants one."""
        return self._header

    @property
    def middle_ids(self) -> tuple[int, ...]:
        """What comes between the text and the first speech code."""
        return self._middle

    @property
    def end_id(self) -> int:
        """SPEECH_GENERATION_END."""
        return self._end

    @property
    def first_speech_id(self) -> int:
        """``<|speech_0|>``; the other 65,535 follow it."""
        return self._first

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Plain text; special tokens' names in it are spelt out, never parsed."""
        return self._tokens(text)

    def speech_ids(self, codes: Codes | Sequence[int]) -> tuple[int, ...]:
        """Ids of speech codes. Raises InputError for codes out of range."""
        numbers = np.asarray(codes, dtype=np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < SPEECH_CODES:
            raise InputError(f"Speech codes are from 0 to {SPEECH_CODES - 1}.", param="voice")
        return tuple((numbers + self._first).tolist())

    def token_id(self, token: str) -> int | None:
        """The id of a special token by its name (2E's ``<|HAPPY|>``); None where unknown."""
        return _special_id(self._model, token)

    def name(self, token: int) -> str:
        """A token as the file writes it."""
        return self._model.name(token)

    def is_special(self, token: int) -> bool:
        """Whether a token stands for no text."""
        return self._model.is_special(token)

    def _tokenized(self, text: str) -> tuple[int, ...]:
        pieces = [text]
        while True:
            ids = [token for piece in pieces for token in self._plain(piece)]
            names = {self._model.name(token) for token in ids if self._model.is_special(token)}
            broken = [part for piece in pieces for part in _broken(piece, names)]
            if len(broken) == len(pieces):
                return tuple(ids)
            pieces = broken

    def _plain(self, text: str) -> list[int]:
        return self._model.tokenize(text, special=False) if text else []

    def _resolve(self, path: Path) -> None:
        ids = [_special_id(self._model, name) for name in (SPEECH_END, FIRST_SPEECH, LAST_SPEECH)]
        end, first, last = (-1 if found is None else found for found in ids)
        if last - first != SPEECH_CODES - 1:
            raise ModelFileError(f"{path}: the speech tokens do not follow each other.")
        self._end, self._first = end, first
        bos = self._model.bos
        header = self._model.tokenize(self.family.header, special=True)
        self._header = tuple(header if bos is None else [bos, *header])
        self._middle = tuple(self._model.tokenize(self.family.middle, special=True))


def _family(header: GgufHeader, model: LlamaModel) -> Family:
    emotions = header.strings(EMOTIONS)
    return find_family(
        header.text(ARCHITECTURE) or "",
        lambda token: _special_id(model, token) is not None,
        input_format=header.text(INPUT_FORMAT),
        emotions=None if emotions is None else [raw.decode("utf-8", "replace") for raw in emotions],
    )


def _special_id(model: LlamaModel, token: str) -> int | None:
    ids = model.tokenize(token, special=True)
    return ids[0] if len(ids) == 1 and model.is_special(ids[0]) else None


def _broken(text: str, names: set[str]) -> list[str]:
    """``text`` in pieces, cut after the first character of every one of ``names`` in it."""
    pieces = [text]
    for name in sorted(name for name in names if len(name) > 1):
        cut: list[str] = []
        for piece in pieces:
            first, *others = piece.split(name)
            for other in others:
                cut.append(first + name[0])
                first = name[1:] + other
            cut.append(first)
        pieces = cut
    return pieces
