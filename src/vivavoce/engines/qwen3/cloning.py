"""From a recording to a voice: speaker vector, and with a transcript codes and codec state."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch

from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.voices import ClonedVoice
from vivavoce.errors import InputError, InvalidAudio
from vivavoce.types import ReferenceAudio, Samples

REFERENCE_RATE_HZ = 24_000
ICL_TAIL_SILENCE_S = 0.5
"""Silence after a reference that is continued: its last sound would bleed into the speech."""

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
SILENCE = 1e-3
"""RMS (-60 dB of full scale) that the loudest stretch of a recording must exceed."""
STRETCH_S = 0.05
MAX_PEAK = 4.0
"""More than decoders overshoot by: such samples are not on the scale of ±1."""


def prepare_reference(
    samples: Samples,
    rate_hz: int,
    *,
    min_s: float = 1.0,
    max_s: float = 60.0,
    tail_silence_s: float = 0.0,
) -> Samples:
    """A mono recording (n,) at ``rate_hz`` as float32 at 24 kHz, with silence at its end.

    The result has ceil(n * 24000 / ``rate_hz``) samples and those of ``tail_silence_s``
    (``ICL_TAIL_SILENCE_S`` for in-context cloning). Raises InvalidAudio for a recording that is
    not mono, not finite, not on the scale of ±1, silent, or outside ``min_s`` … ``max_s``.
    """
    _check_form(samples, rate_hz)
    _check_length(len(samples) / rate_hz, min_s, max_s)
    _check_sound(samples, rate_hz)
    resampled = _resampled(samples.astype(np.float32), rate_hz)
    return np.pad(resampled, (0, round(tail_silence_s * REFERENCE_RATE_HZ)))


def _check_form(samples: Samples, rate_hz: int) -> None:
    if samples.ndim != 1:
        raise InvalidAudio(
            f"The reference recording has the shape {samples.shape}; mono samples are needed."
        )
    if not np.issubdtype(samples.dtype, np.floating):
        raise InvalidAudio(
            f"The reference recording's samples are {samples.dtype}; floats within ±1 are needed."
        )
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidAudio(
            f"The reference recording's sample rate is {rate_hz} Hz; "
            f"{MIN_RATE_HZ} to {MAX_RATE_HZ} are accepted."
        )


def _check_length(duration_s: float, min_s: float, max_s: float) -> None:
    if duration_s < min_s:
        raise InvalidAudio(
            f"The reference recording lasts {duration_s:.2f} s; at least {min_s:g} s are needed."
        )
    if duration_s > max_s:
        raise InvalidAudio(
            f"The reference recording lasts {duration_s:.1f} s; at most {max_s:g} s are accepted."
        )


def _check_sound(samples: Samples, rate_hz: int) -> None:
    if not np.isfinite(samples).all():
        raise InvalidAudio("The reference recording holds samples that are not numbers.")
    peak = float(np.abs(samples).max())
    if peak > MAX_PEAK:
        raise InvalidAudio(f"The reference recording's peak is {peak:.4g}; full scale is 1.")
    stretch = round(STRETCH_S * rate_hz)
    whole = samples[: len(samples) // stretch * stretch].reshape(-1, stretch)
    if not np.sqrt(np.square(whole, dtype=np.float64).mean(1)).max(initial=0.0) > SILENCE:
        raise InvalidAudio("The reference recording is silent.")


def _resampled(samples: Samples, rate_hz: int) -> Samples:
    if rate_hz == REFERENCE_RATE_HZ:
        return samples
    import soxr

    length = ceil(len(samples) * REFERENCE_RATE_HZ / rate_hz)
    resampled: Samples = soxr.resample(samples, rate_hz, REFERENCE_RATE_HZ, "HQ")[:length]
    return np.pad(resampled, (0, length - len(resampled)))


MAX_TOKENS_PER_S = 15.0
SPARE_TOKENS = 10
"""No one says more than this in a recording; ordinary speech is 3 to 5 tokens a second."""


@torch.no_grad()
def clone_voice(
    model: Model, reference: ReferenceAudio, tail_silence_s: float | None = None
) -> ClonedVoice:
    """A voice from a recording. Safe beside the engine's own thread.

    ``tail_silence_s`` None is 0.5 with a transcript and none without. The silence counts as part of
    the recording for the speaker's vector, too: the voice is what the published package makes of
    the longer recording. Raises InvalidAudio, and InputError for a transcript that is empty or
    cannot belong to the recording.
    """
    transcript = reference.transcript
    if tail_silence_s is None:
        tail_silence_s = 0.0 if transcript is None else ICL_TAIL_SILENCE_S
    samples = prepare_reference(
        reference.samples, reference.sample_rate_hz, tail_silence_s=tail_silence_s
    )
    text_ids = None if transcript is None else _transcript_ids(model, transcript, samples)
    heard = torch.from_numpy(samples).to(model.place.device)
    x_vector = model.speaker()(heard).float().cpu().numpy()
    if text_ids is None:
        return ClonedVoice(x_vector)
    codes = model.encoder().encode(heard)
    state = model.codec.prime(codes)
    return ClonedVoice(
        x_vector,
        text_ids,
        codes.cpu().numpy(),
        {name: tensor.cpu().numpy() for name, tensor in state.tensors().items()},
    )


def _transcript_ids(model: Model, transcript: str, samples: Samples) -> np.ndarray:
    ids = model.tokenizer.encode(transcript)
    if not ids:
        raise InputError("The transcript of the recording is empty.", param="ref_text")
    duration_s = len(samples) / REFERENCE_RATE_HZ
    if len(ids) > MAX_TOKENS_PER_S * duration_s + SPARE_TOKENS:
        raise InputError(
            f"The transcript is far too long for a recording of {duration_s:.1f} s.",
            param="ref_text",
        )
    return np.array(ids, np.int64)
