"""From a recording to a voice: speaker vector, and with a transcript codes and codec state."""

from __future__ import annotations

import numpy as np
import torch

from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.reference_audio import (
    ICL_TAIL_SILENCE_S,
    REFERENCE_RATE_HZ,
    prepare_reference,
)
from vivavoce.engines.qwen3.voices import ClonedVoice
from vivavoce.errors import InputError
from vivavoce.types import ReferenceAudio, Samples

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
