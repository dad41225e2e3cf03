"""What an utterance asks for, checked and turned into the numbers the model takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vivavoce.engines.piper.model import Scales
from vivavoce.engines.piper.options import PiperOptions
from vivavoce.engines.piper.synthesis import Manner
from vivavoce.engines.piper.voice_config import VoiceConfig
from vivavoce.errors import InputError, Unsupported, shown
from vivavoce.types import Utterance

UTTERANCE_OPTIONS = ("noise_scale", "noise_w_scale")
MAX_NOISE_SCALE = 2.0
MIN_SPEED, MAX_SPEED = 0.1, 10.0
MAX_TEMPERATURE = 2.0


def check_manner(utterance: Utterance, config: VoiceConfig) -> None:
    """Raises InputError or Unsupported, with ``param``, for what a Piper voice cannot do."""
    _refuse_unsupported(utterance)
    if not MIN_SPEED <= utterance.speed <= MAX_SPEED:
        raise InputError(f"speed must be from {MIN_SPEED} to {MAX_SPEED}.", param="speed")
    temperature = utterance.sampling.temperature
    if temperature is not None and not 0.0 <= temperature <= MAX_TEMPERATURE:
        raise InputError(f"temperature must be from 0 to {MAX_TEMPERATURE}.", param="temperature")
    if utterance.max_audio_s is not None and not utterance.max_audio_s > 0:
        raise InputError("max_audio_s must be above 0.", param="max_audio_s")
    for name, value in utterance.options.items():
        _check_option(name, value)
    _check_language(utterance.language, config)


def _refuse_unsupported(utterance: Utterance) -> None:
    if utterance.sampling.top_p is not None:
        raise Unsupported("Piper voices have no top_p.", param="top_p")
    if utterance.instructions:
        raise Unsupported("Piper voices take no instructions.", param="instructions")
    if utterance.text_open:
        raise Unsupported("Piper voices take whole texts only.", param="input")


def _check_option(name: str, value: Any) -> None:
    if name not in UTTERANCE_OPTIONS:
        known = ", ".join(UTTERANCE_OPTIONS)
        raise InputError(f"Piper has no option {shown(name)}; it has: {known}.", param=name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= MAX_NOISE_SCALE:
        raise InputError(f"{name} must be a number from 0 to {MAX_NOISE_SCALE}.", param=name)


def _check_language(language: str | None, config: VoiceConfig) -> None:
    """A voice speaks one language; another would be read with the wrong sounds."""
    if not language or language == "auto" or not config.language:
        return
    asked = language.replace("_", "-").partition("-")[0].lower()
    if asked != config.language.partition("-")[0].lower():
        raise Unsupported(f"This voice speaks {config.language}, not {language}.", param="language")


def manner_of(
    utterance: Utterance, config: VoiceConfig, speaker: int | None, options: PiperOptions
) -> Manner:
    """The numbers for an utterance: its own options, then the engine's, then the voice's."""
    limit_s = utterance.max_audio_s
    return Manner(
        scales_of(utterance, config, options),
        speaker,
        utterance.sampling.seed,
        None if limit_s is None else math.ceil(limit_s * config.sample_rate_hz),
    )


def scales_of(utterance: Utterance, config: VoiceConfig, options: PiperOptions) -> Scales:
    """Noise and length. ``speed`` divides the length of every phoneme; ``temperature`` multiplies
    both noise scales, as far as ``MAX_NOISE_SCALE``: beyond it there is no speech any more.
    """
    heat = 1.0 if utterance.sampling.temperature is None else utterance.sampling.temperature
    noise = _first(utterance.options, "noise_scale", options.noise_scale, config.noise_scale)
    noise_w = _first(
        utterance.options, "noise_w_scale", options.noise_w_scale, config.noise_w_scale
    )
    length = config.length_scale if options.length_scale is None else options.length_scale
    noise, noise_w = (min(scale * heat, MAX_NOISE_SCALE) for scale in (noise, noise_w))
    return Scales(noise, noise_w, length / utterance.speed)


def longest_audio_s(
    utterance: Utterance, config: VoiceConfig, options: PiperOptions
) -> float | None:
    """How much sound an utterance can mean at most: what its text can, lengthened by its scales.

    Noise in the durations makes speech longer and its length more uncertain. Of 20,000 short
    clauses and 1,200 of up to 170 characters at ``noise_w_scale`` 2, with ``MAX_PHONEME_S``, the
    longest had 1.6 times the sound that the text can mean at usual settings (en_US-joe-medium;
    0.42 times at the voice's own 0.8, 1.05 times at 1.75). The scale itself leaves room above that.
    """
    if utterance.max_audio_s is None:
        return None
    scales = scales_of(utterance, config, options)
    length = scales.length * utterance.speed  # speed is in the limit already
    return utterance.max_audio_s * max(1.0, scales.noise_w) * max(1.0, length)


def _first(given: Mapping[str, Any], name: str, ours: float | None, voice: float) -> float:
    if name in given:
        return float(given[name])
    return voice if ours is None else ours
