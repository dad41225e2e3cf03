"""From the original vocabulary's ids to the rows of the file that is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.neutts.backbone import SPEECH_CODES
from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.metadata import read_header
from vivavoce.engines.neutts.gguf.prune import KEPT_IDS
from vivavoce.engines.neutts.gguf.sampler import CHOICES, Scores
from vivavoce.engines.neutts.gguf.vocabulary import GgufVocabulary
from vivavoce.errors import InputError

DROPPED = -1


class RowMap:
    """Which row each token of ``vocabulary`` has in the file at ``path``, pruned or not."""

    def __init__(self, vocabulary: GgufVocabulary, path: Path) -> None:
        self._vocabulary = vocabulary
        kept = read_header(path).array(KEPT_IDS)
        self._kept: Ids = np.arange(vocabulary.rows, dtype=np.int32) if kept is None else kept
        self._rows = np.full(vocabulary.rows, DROPPED, np.int32)
        self._rows[self._kept] = np.arange(len(self._kept), dtype=np.int32)
        self._end = int(self._rows[vocabulary.end_id])
        first = int(self._rows[vocabulary.first_speech_id])
        self._speech = slice(first, first + SPEECH_CODES)

    @property
    def size(self) -> int:
        """How many rows the file has."""
        return len(self._kept)

    def rows(self, ids: Sequence[int]) -> Ids:
        """Rows of token ids; a token without a row is spelt with several that have one.

        Raises InputError for ids that are no token.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < len(self._rows):
            raise InputError("The prompt holds a token that the model does not have.")
        found = self._rows[tokens]
        if (found != DROPPED).all():
            return found
        spelt = [
            [row] if row != DROPPED else self._spell(int(token))
            for token, row in zip(tokens, found.tolist(), strict=True)
        ]
        return np.array([row for rows in spelt for row in rows], np.int32)

    def speech_rows(self, choices: NDArray[np.int32]) -> Ids:
        """Rows of codes, to go on with."""
        return (choices + self._speech.start).astype(np.int32)

    def gather(self, scores: Scores, into: Scores) -> None:
        """Copy what can be spoken, END first, out of all rows' scores."""
        into[0] = scores[self._end]
        into[1:CHOICES] = scores[self._speech]

    def _spell(self, token: int) -> list[int]:
        """The longest kept pieces from the left; a single byte is always kept."""
        text, rows = self._vocabulary.name(token), []
        while text:
            length = next((n for n in range(len(text), 0, -1) if text[:n] in self._names), 0)
            if not length:
                raise InputError("The text holds something that the model cannot read.")
            rows.append(self._names[text[:length]])
            text = text[length:]
        return rows

    @cached_property
    def _names(self) -> dict[str, int]:
        pairs = ((int(token), row) for row, token in enumerate(self._kept))
        normal = (pair for pair in pairs if not self._vocabulary.is_special(pair[0]))
        return {self._vocabulary.name(token): row for token, row in normal}
