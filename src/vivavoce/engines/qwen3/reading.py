"""Prompts that are being read: which rows they are for, and what came while they were read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vivavoce.engines.qwen3.manner import row_options
from vivavoce.engines.qwen3.options import Qwen3Options

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.batch import Batch
    from vivavoce.engines.qwen3.beginning import Beginning
    from vivavoce.engines.qwen3.model import Model
    from vivavoce.engines.qwen3.row_speech import RowSpeech


@dataclass(slots=True)
class _Reading:
    """``told``: token ids of its text that the row knows of."""

    beginning: Beginning
    told: int


@dataclass(slots=True)
class Readings:
    """Of the rows of a batch."""

    model: Model
    batch: Batch
    options: Qwen3Options
    _under_way: dict[int, _Reading] = field(default_factory=dict)

    def advance(self, row: int, speech: RowSpeech) -> bool:
        """Read the next piece of a row's prompt; whether the row speaks from now on.

        Raises InputError for what leaves no room to speak, and NoDeviceMemory.
        """
        if row not in self._under_way:
            self._under_way[row] = self._start(row, speech)
        reading = self._under_way[row]
        if not reading.beginning.advance():
            return False
        self.forget(row)
        if speech.utterance.text_open:
            if later := speech.ids[reading.told :]:
                self.batch.extend(row, later)
            if speech.closed:
                self.batch.finish(row)
        return True

    def forget(self, row: int) -> None:
        """Nobody wants to hear the row any more."""
        self._under_way.pop(row, None)

    def _start(self, row: int, speech: RowSpeech) -> _Reading:
        from vivavoce.engines.qwen3.wording import words_of

        config = self.model.config
        words = words_of(speech, config, self.model.tokenizer, self.options.text_layout)
        most = speech.budget if speech.closed else self.options.positions
        options = row_options(config.generation, speech.utterance.sampling, speech.request, most)
        return _Reading(self.batch.start(row, words, options), len(speech.ids))
