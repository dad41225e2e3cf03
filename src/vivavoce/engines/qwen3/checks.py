"""What a checkpoint can be asked for: refusals before a row is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vivavoce.engines.qwen3.config import model_language
from vivavoce.engines.qwen3.manner import Manner, manner_of
from vivavoce.engines.qwen3.voices import cloned
from vivavoce.errors import InputError, UnknownVoice, Unsupported
from vivavoce.types import Utterance, Voice

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.config import Qwen3Config

SMALL = "0b6"


def check_utterance(config: Qwen3Config, utterance: Utterance, voices: Sequence[Voice]) -> Manner:
    """Its options. Raises InputError for what this model cannot speak."""
    manner = manner_of(utterance)
    model_language(utterance.language, config.talker.codec_language_id)
    _check_voice(config, utterance.voice, voices)
    _check_instructions(config, utterance)
    if utterance.text_open:
        _check_open(manner, utterance.voice)
    return manner


def check_described(config: Qwen3Config, utterance: Utterance) -> None:
    """Raise InputError where a VoiceDesign model is given no voice to make."""
    if config.kind == "voice_design" and not instructions_of(utterance):
        raise InputError(
            "This model needs instructions that describe a voice.", param="instructions"
        )


def takes_instructions(config: Qwen3Config) -> bool:
    """Whether a checkpoint was trained to be told how to speak; of the small ones none was."""
    return config.kind == "voice_design" or (config.kind == "custom_voice" and config.size != SMALL)


def instructions_of(utterance: Utterance) -> str:
    """How it is to be spoken; empty where nothing was said."""
    return (utterance.instructions or "").strip()


def _check_voice(config: Qwen3Config, voice: Voice, voices: Sequence[Voice]) -> None:
    state = cloned(voice)
    if config.kind == "base":
        if state is None:
            raise UnknownVoice(voice.id, [each.id for each in voices])
        if len(state.x_vector) != config.talker.hidden_size:
            raise InputError("The voice was made with another model.", param="voice")
        _check_codes(config, voice)
    elif state is not None:
        raise Unsupported(f"A {config.kind} model cannot speak as a clone.", param="voice")
    elif voice.id not in {each.id for each in voices}:
        raise UnknownVoice(voice.id, [each.id for each in voices])


def _check_codes(config: Qwen3Config, voice: Voice) -> None:
    """Codes of a saved voice are read from a file: they must be this codec's."""
    state, codec = cloned(voice), config.codec.decoder
    if state is None or state.codes is None:
        return
    codes = state.codes
    inside = codes.min() >= 0 and codes.max() < codec.codebook_size
    if codes.shape[1] != codec.num_quantizers or not inside:
        raise InputError("The voice was made with another model.", param="voice")


def _check_instructions(config: Qwen3Config, utterance: Utterance) -> None:
    """The service names them as ignored and leaves them out; whoever calls by himself hears why."""
    if not instructions_of(utterance) or takes_instructions(config):
        return
    kind = "A Base" if config.kind == "base" else "The 0.6B CustomVoice"
    raise Unsupported(
        f"{kind} model takes no instructions; the 1.7B CustomVoice and VoiceDesign models do.",
        param="instructions",
    )


def _check_open(manner: Manner, voice: Voice) -> None:
    state = cloned(voice)
    if manner.text_layout == "whole":
        raise Unsupported("Text in pieces needs the streaming layout.", param="text_layout")
    if state is not None and state.in_context:
        raise Unsupported(
            "Text in pieces needs a voice that was cloned without a transcript.", param="voice"
        )
