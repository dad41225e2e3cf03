"""Perth's watermark on a stream of sound.

Perth marks whole recordings. A piece of a stream is marked with the sound before it as context, and
only what the mark adds is kept: it fades in and out at the piece's edges, so that no seam is heard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from vivavoce.engines.neutts.codec.stream import SAMPLE_RATE_HZ
from vivavoce.errors import SettingsError
from vivavoce.types import Samples

Mark: TypeAlias = Callable[[Samples], Samples]
"""A recording (n,) at 24 kHz to the same recording, marked."""

CONTEXT = SAMPLE_RATE_HZ // 2
FADE = SAMPLE_RATE_HZ // 200
"""Samples: half a second before a piece, and 5 ms at its edges."""


def load_perth() -> Mark:
    """Perth with the weights of the installed package.

    Raises SettingsError where that is not installed, ModelFileError for damaged weights.
    """
    from vivavoce.engines.neutts.perth import Perth, perth_weights

    weights = perth_weights()
    if weights is None:
        raise SettingsError(
            "watermark=true needs the weights in the package resemble-perth: "
            "pip install --no-deps resemble-perth",
            param="watermark",
        )
    return Perth.open(weights)


class WatermarkStream:
    """One utterance. Not thread safe."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._before: Samples = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> Samples:
        """The next piece (n,), marked; as many samples as it has."""
        window = np.concatenate([self._before, samples])
        self._before = window[-CONTEXT:]
        marked = self._mark(window)[: len(window)]
        added = np.zeros(len(window), np.float32)
        added[: len(marked)] = marked - window[: len(marked)]
        return samples + added[len(window) - len(samples) :] * _edges(len(samples))


def _edges(count: int) -> Samples:
    """Ones that rise from and fall to nothing."""
    length = min(FADE, count // 2)
    rising = ((np.arange(length) + 0.5) / max(1, length)).astype(np.float32)
    shape = np.ones(count, np.float32)
    shape[:length] = rising
    shape[count - length :] = rising[::-1]
    return shape
