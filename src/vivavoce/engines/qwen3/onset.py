"""The silence that a model begins with, left out: the first sound that is handed out is audible.

Qwen3-TTS often begins with a frame of silence, which is 80 ms of a caller's wait.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivavoce.types import Samples

FRAME_SAMPLES = 1920
AUDIBLE_PEAK = 0.001
"""-60 dBFS. Speech and the breath before it are 20 dB louder and more; a sample so low is 33 steps
of 16 bits, and the trimmer behind the engines takes ten times the power for silence, too."""


@dataclass(slots=True)
class Onset:
    """Drops whole frames from an utterance's beginning until one has a sample of AUDIBLE_PEAK.

    It looks at frames, however many come at a time, so that the same ones go in any chunks.
    ``dropped_frames`` are those that went; ``passed`` says that an audible one has come.
    """

    dropped_frames: int = 0
    passed: bool = False

    def audible(self, samples: Samples) -> Samples:
        """Take the next sound, float32 (n,), of whole frames; what is left of it, (m,)."""
        if self.passed:
            return samples
        loud = np.abs(samples) >= AUDIBLE_PEAK
        self.passed = bool(loud.any())
        silent = (int(loud.argmax()) if self.passed else len(samples)) // FRAME_SAMPLES
        self.dropped_frames += silent
        return samples[silent * FRAME_SAMPLES :]
