"""The package ``resemble-perth`` with stand-ins for what it imports and does not ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import gcd
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from scipy.signal import resample_poly


class Spectrogram(torch.nn.Module):
    """As torchaudio's, with power None."""

    def __init__(
        self, n_fft: int, win_length: int, hop_length: int, window_fn: Any, **_: Any
    ) -> None:
        super().__init__()
        self.sizes = n_fft, hop_length, win_length
        self.register_buffer("window", window_fn(win_length))

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        return torch.stft(sound, *self.sizes, self.window, return_complex=True)


class InverseSpectrogram(Spectrogram):
    """Back again."""

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        return torch.istft(spectrum, *self.sizes, self.window)


class TimeStretch(torch.nn.Module):
    """Never used, but its buffer is among the weights."""

    def __init__(self, n_freq: int, **_: Any) -> None:
        super().__init__()
        self.register_buffer("phase_advance", torch.zeros(n_freq, 1))


def resample(sound: Any, *, orig_sr: int, target_sr: int, res_type: str = "soxr_hq") -> Any:
    """As librosa's."""
    if res_type == "soxr_hq":
        return soxr.resample(sound, orig_sr, target_sr)
    common = gcd(orig_sr, target_sr)
    return resample_poly(sound, target_sr // common, orig_sr // common).astype(np.float32)


def resource_filename(name: str, path: str) -> str:
    return str(Path(str(sys.modules[name].__file__)).parent / path)


@contextmanager
def real_marker() -> Iterator[Any]:
    """The package's own marker and detector."""
    stand_ins: dict[str, dict[str, Any]] = {
        "pkg_resources": {"resource_filename": resource_filename},
        "librosa": {"resample": resample},
        "torchaudio": {},
        "torchaudio.transforms": {
            "Spectrogram": Spectrogram,
            "InverseSpectrogram": InverseSpectrogram,
            "TimeStretch": TimeStretch,
        },
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, content in stand_ins.items():
            module = ModuleType(name)
            vars(module).update(content)
            patch.setitem(sys.modules, name, module)
        import perth

        yield perth.PerthImplicitWatermarker()
        for name in [each for each in sys.modules if each.split(".")[0] == "perth"]:
            patch.delitem(sys.modules, name)
