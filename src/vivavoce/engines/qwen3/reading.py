"""Prompts: what they are made of, and those being read, with what came while they were read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vivavoce.engines.qwen3.options import Qwen3Options, TextLayout, instructions_of, row_options
from vivavoce.engines.qwen3.voices import cloned, model_language

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.batch import Batch, Words
    from vivavoce.engines.qwen3.beginning import Beginning
    from vivavoce.engines.qwen3.config import Qwen3Config
    from vivavoce.engines.qwen3.model import Model
    from vivavoce.engines.qwen3.row_speech import RowSpeech
    from vivavoce.engines.qwen3.tokenizer import TextTokenizer


PLAIN_VOICE = "A clear adult voice, calm and friendly, at an even pace."
"""What a VoiceDesign model speaks as where nobody described a voice: the proof at start."""


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
        config = self.model.config
        words = words_of(speech, config, self.model.tokenizer, self.options.text_layout)
        most = speech.budget if speech.closed else self.options.positions
        options = row_options(config.generation, speech.utterance.sampling, speech.request, most)
        return _Reading(self.batch.start(row, words, options), len(speech.ids))


def words_of(
    speech: RowSpeech, config: Qwen3Config, tokenizer: TextTokenizer, layout: TextLayout
) -> Words:
    """Text, language, voice and instructions; ``layout`` where the utterance does not say."""
    from vivavoce.engines.qwen3.batch import Words

    utterance = speech.utterance
    instructions = instructions_of(utterance)
    if config.kind == "voice_design" and not instructions:
        instructions = PLAIN_VOICE
    wanted = speech.request.text_layout
    return Words(
        speech.ids,
        model_language(utterance.language, config.talker.codec_language_id),
        utterance.voice.id if config.kind == "custom_voice" else None,
        cloned(utterance.voice) if config.kind == "base" else None,
        tokenizer.encode(instructions) if instructions else (),
        not utterance.text_open and _whole(layout if wanted == "auto" else wanted, config),
        utterance.text_open,
    )


def _whole(layout: TextLayout, config: Qwen3Config) -> bool:
    """Whether the text stands in the prompt; "auto" is how the kind is published."""
    return config.kind != "base" if layout == "auto" else layout == "whole"
