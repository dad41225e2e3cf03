"""Runs the published codec and speaker encoder on given weights: ``python official.py FOLDER``.

FOLDER holds a checkpoint without a talker, speaker.json and inputs.npz: arrays named ``codes…``
int64 [T, 16], ``sound…`` float32 [L] at 24 kHz and ``voice…`` likewise. Writes outputs.npz with
the samples, the codes and the speaker's vector under the same names. Needs nothing of vivavoce.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch


def without_unused_imports() -> None:
    """Stand-ins for modules that only the unreleased 25 Hz tokenizer uses."""
    for name in (
        "torchaudio",
        "torchaudio.compliance",
        "torchaudio.compliance.kaldi",
        "sox",
        "onnxruntime",
    ):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def codec(folder: Path) -> Any:
    """The published codec with the given weights, fp32."""
    from qwen_tts.core.tokenizer_12hz.configuration_qwen3_tts_tokenizer_v2 import (
        Qwen3TTSTokenizerV2Config,
    )
    from qwen_tts.core.tokenizer_12hz.modeling_qwen3_tts_tokenizer_v2 import (
        Qwen3TTSTokenizerV2Model,
    )
    from safetensors.torch import load_file

    config = json.loads((folder / "speech_tokenizer" / "config.json").read_text())
    model = Qwen3TTSTokenizerV2Model(Qwen3TTSTokenizerV2Config(**config)).eval()
    state = load_file(folder / "speech_tokenizer" / "model.safetensors")
    model.load_state_dict(state, strict=True)
    return model


def speaker_encoder(folder: Path) -> Any:
    """The published speaker encoder with the given weights, fp32."""
    from qwen_tts.core.models.configuration_qwen3_tts import Qwen3TTSSpeakerEncoderConfig
    from qwen_tts.core.models.modeling_qwen3_tts import Qwen3TTSSpeakerEncoder
    from safetensors.torch import load_file

    config = json.loads((folder / "speaker.json").read_text())
    model = Qwen3TTSSpeakerEncoder(Qwen3TTSSpeakerEncoderConfig(**config)).eval()
    state = load_file(folder / "model.safetensors")
    at = "speaker_encoder."
    model.load_state_dict({name.removeprefix(at): state[name] for name in state}, strict=True)
    return model


def vector(model: Any, samples: torch.Tensor) -> torch.Tensor:
    """A recording's speaker, as the published package computes it."""
    from qwen_tts.core.models.modeling_qwen3_tts import mel_spectrogram

    mel = mel_spectrogram(
        samples[None],
        n_fft=1024,
        num_mels=128,
        sampling_rate=24_000,
        hop_size=256,
        win_size=1024,
        fmin=0,
        fmax=12_000,
    )
    return model(mel.transpose(1, 2))[0]


def encoded(model: Any, samples: torch.Tensor) -> torch.Tensor:
    """A recording's codes [T, 16]."""
    given = samples[None]
    codes = model.encode(given, padding_mask=torch.ones_like(given).long(), return_dict=True)
    return codes.audio_codes[0]


@torch.no_grad()
def main(folder: Path) -> None:
    """All inputs; whole, not in the package's own inexact chunks."""
    warnings.filterwarnings("ignore")
    without_unused_imports()
    torch.set_num_threads(1)
    model, speakers = codec(folder), speaker_encoder(folder)
    outputs = {}
    with np.load(folder / "inputs.npz") as inputs:
        for name in inputs.files:
            given = torch.from_numpy(inputs[name])
            if name.startswith("codes"):
                made = model.decoder(given.T[None])[0, 0]
            else:
                made = vector(speakers, given) if "voice" in name else encoded(model, given)
            outputs[name] = made.numpy()
    np.savez_compressed(folder / "outputs.npz", **outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
