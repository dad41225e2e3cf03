"""A watermark for sound that comes in pieces, by Perth's implicit network.

A network of seven convolutions reads the magnitudes of a recording in decibels up to 2 kHz and says
what to add to them; phases stay (https://github.com/resemble-ai/perth, MIT; its
``PerthImplicitWatermarker``). The package itself is never imported, as it needs torchaudio, librosa
and what setuptools no longer has: numpy computes the same from the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import soxr

from vivavoce.engines.neutts.codec.stream import SAMPLE_RATE_HZ
from vivavoce.errors import ModelFileError, SettingsError
from vivavoce.runtime.torch_zip import TorchZip
from vivavoce.types import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float32]"

WEIGHTS = "perth_net/pretrained/implicit/perth_net_250000.pth.tar"
RATE_HZ = 32_000
FRAME, HOP = 2048, 320
BANDS = 128
"""Bins that carry the mark: those below 2 kHz."""

LAYERS, LEAK = 7, 0.01
LOWEST_DB, HEADROOM_DB = -180.0, 15.0
"""Magnitudes of 1e-9 and less become 0, and those of 15 dB become 1."""

QUIET_SHARE = 0.05
"""Frames below this share of the loudest one carry no mark."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution over frames: ``matrix`` [kernel * in, out], ``bias`` [out]."""

    matrix: Floats
    bias: Floats
    kernel: int

    def __call__(self, x: Floats) -> Floats:
        """[T, in] to [T, out]; zeros at both ends."""
        side = self.kernel // 2
        padded = np.pad(x, ((side, side), (0, 0)))
        views = [padded[at : at + len(x)] for at in range(self.kernel)]
        return (np.concatenate(views, axis=1) @ self.matrix + self.bias).astype(np.float32)


class Perth:
    """The marker. Thread safe."""

    def __init__(self, layers: Sequence[_Layer]) -> None:
        self._layers = tuple(layers)
        self._window = np.hanning(FRAME + 1)[:-1].astype(np.float32)

    @classmethod
    def open(cls, path: Path) -> Perth:
        """Read the weights. Raises ModelFileError for a file that is not theirs."""
        weights = TorchZip.open(path)
        layers = []
        for number in range(LAYERS):
            names = [f"encoder.layers.{number}.conv.{kind}" for kind in ("weight", "bias")]
            if not all(name in weights.shapes for name in names):
                raise ModelFileError(f"{path} holds no weights of Perth: {names[0]} is missing.")
            weight, bias = (weights.read(name) for name in names)
            outputs, inputs, kernel = weight.shape
            matrix = weight.transpose(2, 1, 0).reshape(kernel * inputs, outputs)
            layers.append(_Layer(np.ascontiguousarray(matrix), bias, kernel))
        widths = [BANDS, *(len(layer.bias) for layer in layers)]
        taken = [len(layer.matrix) // layer.kernel for layer in layers]
        if taken != widths[:-1] or widths[-1] != BANDS:
            raise ModelFileError(f"{path} holds weights of another Perth.")
        return cls(layers)

    def __call__(self, samples: Samples) -> Samples:
        """Sound (n,) at 24 kHz to the same sound, marked."""
        fine = soxr.resample(samples, SAMPLE_RATE_HZ, RATE_HZ).astype(np.float32)
        if len(fine) <= FRAME // 2:
            return samples
        added = soxr.resample(self._added(fine), RATE_HZ, SAMPLE_RATE_HZ)[: len(samples)]
        return samples + np.pad(added, (0, len(samples) - len(added))).astype(np.float32)

    def _added(self, fine: Samples) -> Samples:
        """What the mark adds to sound (n,) at 32 kHz; (n,)."""
        spectrum = np.fft.rfft(self._frames(fine) * self._window)
        size = np.abs(spectrum).astype(np.float32)
        level = _level(size)
        loudness = level.sum(1, keepdims=True)
        loud = loudness > loudness.max() * QUIET_SHARE
        x = level[:, :BANDS]
        for number, layer in enumerate(self._layers):
            x = layer(x)
            if number < LAYERS - 1:
                x = np.maximum(x, LEAK * x)
        louder = _magnitude(level[:, :BANDS] + x * loud)
        unit = spectrum[:, :BANDS] / np.maximum(size[:, :BANDS], 1e-30)
        difference = np.zeros_like(spectrum)
        difference[:, :BANDS] = (louder - _magnitude(level[:, :BANDS])) * unit
        return self._overlapped(np.fft.irfft(difference, FRAME), len(fine))

    def _frames(self, fine: Samples) -> Floats:
        """Frames [T, 2048] around every 320th sample; the ends are mirrored."""
        padded = np.pad(fine, FRAME // 2, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, FRAME)
        return np.asarray(windows[::HOP], np.float32)

    def _overlapped(self, frames: NDArray[np.float64], count: int) -> Samples:
        """The frames' least-squares sum, without the mirrored ends."""
        total = np.zeros(FRAME + HOP * (len(frames) - 1))
        energy = np.zeros_like(total)
        for number, frame in enumerate(frames):
            at = slice(number * HOP, number * HOP + FRAME)
            total[at] += frame * self._window
            energy[at] += self._window**2
        sound = (total / np.maximum(energy, 1e-11))[FRAME // 2 :][:count]
        return np.pad(sound, (0, count - len(sound))).astype(np.float32)


def perth_weights() -> Path | None:
    """The weights' file in the installed package; None where it is not installed."""
    found = find_spec("perth")
    for folder in () if found is None else found.submodule_search_locations or ():
        if (path := Path(folder) / WEIGHTS).is_file():
            return path
    return None


def _level(size: Floats) -> Floats:
    decibels = 20 * np.log10(np.maximum(size, 10 ** (LOWEST_DB / 20)))
    return ((decibels - LOWEST_DB) / (HEADROOM_DB - LOWEST_DB)).astype(np.float32)


def _magnitude(level: Floats) -> Floats:
    decibels = level * (HEADROOM_DB - LOWEST_DB) + LOWEST_DB
    return (10 ** np.minimum(decibels / 20, 10.0)).astype(np.float32)


Mark: TypeAlias = Callable[[Samples], Samples]
"""A recording (n,) at 24 kHz to the same recording, marked."""

CONTEXT = SAMPLE_RATE_HZ // 2
FADE = SAMPLE_RATE_HZ // 200
"""Samples: half a second before a piece, and 5 ms at its edges."""


def load_perth() -> Mark:
    """Perth with the weights of the installed package.

    Raises SettingsError where that is not installed, ModelFileError for damaged weights.
    """
    from vivavoce.engines.neutts.watermark import Perth, perth_weights

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
