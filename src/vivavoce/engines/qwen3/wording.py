"""From an utterance to what its row begins with."""

from __future__ import annotations

from vivavoce.engines.qwen3.batch import Words
from vivavoce.engines.qwen3.checks import instructions_of
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.languages import model_language
from vivavoce.engines.qwen3.options import TextLayout
from vivavoce.engines.qwen3.row_speech import RowSpeech
from vivavoce.engines.qwen3.tokenizer import TextTokenizer
from vivavoce.engines.qwen3.voices import cloned

PLAIN_VOICE = "A clear adult voice, calm and friendly, at an even pace."
"""What a VoiceDesign model speaks as where nobody described a voice: the proof at start."""


def words_of(
    speech: RowSpeech, config: Qwen3Config, tokenizer: TextTokenizer, layout: TextLayout
) -> Words:
    """Text, language, voice and instructions; ``layout`` where the utterance does not say."""
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
