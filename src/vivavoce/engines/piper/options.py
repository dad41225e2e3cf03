"""What can be set for the Piper engine as a whole, and what one utterance may ask of a voice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import Strict

from vivavoce.engines.options import Positive, given_or, parse_request_options
from vivavoce.engines.piper.voice_files import VoiceConfig
from vivavoce.errors import InputError, Unsupported
from vivavoce.runtime.machine import usable_cores
from vivavoce.types import Utterance

MAX_DEFAULT_WORKERS = 8
MAX_NOISE_SCALE = 2.0
MAX_TEMPERATURE = 2.0
MIN_SPEED, MAX_SPEED = 0.1, 10.0

Scale = Annotated[float, Ge(0.0), Le(MAX_NOISE_SCALE)]


@dataclass(frozen=True, slots=True)
class PiperOptions:
    """Options of the Piper engine.

    ``voice`` is the default voice: a name among the voices found, one that can be downloaded
    (with ``download``, from ``download_repo`` on the Hugging Face Hub), or empty for the packaged
    voice; ``model`` is the path of an .onnx file to use instead. ``voices_dir`` holds more voices
    as NAME.onnx + NAME.onnx.json.
    ``noise_scale``, ``noise_w_scale`` and ``length_scale`` replace the voice's own; an utterance
    may override the first two. ``gain_db`` lifts the models' low level towards what other
    servers send (they scale each sentence to full peak, which no stream can). ``workers`` is how
    many windows are computed at once (0: one per core, at most 8), ``threads`` how many threads
    ONNX Runtime uses for each. Windows are in
    frames of the model (256 samples for all published voices). ``loaded_voices`` bounds how many
    voices stay in memory.
    """

    voice: str = ""
    model: Path | None = None
    voices_dir: Path | None = None
    download: bool = False
    download_repo: str = "rhasspy/piper-voices"
    cache_dir: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    capacity: Positive = 64
    workers: Annotated[int, Ge(0), Le(64)] = 0
    threads: Positive = 1
    loaded_voices: Positive = 3
    noise_scale: Scale | None = None
    noise_w_scale: Scale | None = None
    length_scale: Annotated[float, Gt(0.0), Le(10.0)] | None = None
    gain_db: Annotated[float, Ge(-20.0), Le(20.0)] = 4.0
    first_window_frames: Positive = 24
    max_window_frames: Positive = 64
    window_growth: Annotated[float, Ge(1.0)] = 2.0

    def worker_count(self) -> int:
        """How many units of work run at once."""
        return self.workers or min(usable_cores(), MAX_DEFAULT_WORKERS)


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Options of one utterance; None takes the engine's own or the voice's."""

    noise_scale: Annotated[Scale, Strict()] | None = None
    noise_w_scale: Annotated[Scale, Strict()] | None = None


@dataclass(frozen=True, slots=True)
class Scales:
    """How much noise and how long: of the latent, of the durations, and of each phoneme."""

    noise: float
    noise_w: float
    length: float


@dataclass(frozen=True, slots=True)
class SynthesisOptions:
    """The numbers that an utterance is synthesized with."""

    scales: Scales
    speaker: int | None
    seed: int | None
    max_samples: int | None


def check_utterance(utterance: Utterance, config: VoiceConfig) -> None:
    """Raises InputError or Unsupported, with ``param``, for what a Piper voice cannot do."""
    if utterance.sampling.top_p is not None:
        raise Unsupported("Piper voices have no top_p.", param="top_p")
    if utterance.instructions:
        raise Unsupported("Piper voices take no instructions.", param="instructions")
    if utterance.text_open:
        raise Unsupported("Piper voices take whole texts only.", param="input")
    if not MIN_SPEED <= utterance.speed <= MAX_SPEED:
        raise InputError(f"speed must be from {MIN_SPEED} to {MAX_SPEED}.", param="speed")
    if utterance.max_audio_s is not None and not utterance.max_audio_s > 0:
        raise InputError("max_audio_s must be above 0.", param="max_audio_s")
    _request_options(utterance)
    _check_language(utterance.language, config)


def _request_options(utterance: Utterance) -> RequestOptions:
    return parse_request_options(RequestOptions, "piper", utterance, MAX_TEMPERATURE)


def _check_language(language: str | None, config: VoiceConfig) -> None:
    """A voice speaks one language; another would be read with the wrong sounds."""
    if not language or language == "auto" or not config.language:
        return
    asked = language.replace("_", "-").partition("-")[0].lower()
    if asked != config.language.partition("-")[0].lower():
        raise Unsupported(f"This voice speaks {config.language}, not {language}.", param="language")


def synthesis_options(
    utterance: Utterance, config: VoiceConfig, speaker: int | None, options: PiperOptions
) -> SynthesisOptions:
    """The numbers for an utterance: its own options, then the engine's, then the voice's."""
    limit_s = utterance.max_audio_s
    return SynthesisOptions(
        scales_of(utterance, config, options),
        speaker,
        utterance.sampling.seed,
        None if limit_s is None else math.ceil(limit_s * config.sample_rate_hz),
    )


def scales_of(utterance: Utterance, config: VoiceConfig, options: PiperOptions) -> Scales:
    """Noise and length. ``speed`` divides the length of every phoneme; ``temperature`` multiplies
    both noise scales, as far as ``MAX_NOISE_SCALE``: beyond it there is no speech any more.
    """
    request = _request_options(utterance)
    heat = given_or(utterance.sampling.temperature, 1.0)
    noise = given_or(request.noise_scale, given_or(options.noise_scale, config.noise_scale))
    noise_w = given_or(request.noise_w_scale, given_or(options.noise_w_scale, config.noise_w_scale))
    length = given_or(options.length_scale, config.length_scale)
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
