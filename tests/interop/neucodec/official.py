"""Runs w2v-BERT 2.0 and HuBERT as transformers has them: ``python official.py FOLDER``.

FOLDER holds inputs.npz: ``sound`` float32 [L] at 16 kHz, and the weights as ``w2v.NAME`` and
``hubert.NAME``; sizes.json tells the models' sizes. Writes outputs.npz. Needs nothing of vivavoce.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parametrize
from transformers import (
    HubertConfig,
    HubertModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
)

LISTENED_TO = 16
ONE_MORE = LISTENED_TO + 1


def features(sound: np.ndarray) -> np.ndarray:
    """What ``facebook/w2v-bert-2.0`` is given: [T, 160]."""
    extractor = SeamlessM4TFeatureExtractor(
        feature_size=80, num_mel_bins=80, sampling_rate=16_000, stride=2, padding_value=1
    )
    given = extractor(sound, sampling_rate=16_000, return_tensors="np")
    whole = given["attention_mask"][0].sum()
    return given["input_features"][0][:whole]


def w2v_bert(sizes: dict[str, int], weights: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    """Hidden states after sixteen layers, of a model that has more."""
    config = Wav2Vec2BertConfig(
        hidden_size=sizes["hidden"],
        intermediate_size=sizes["intermediate"],
        num_attention_heads=sizes["heads"],
        num_hidden_layers=ONE_MORE,
        feature_projection_input_dim=160,
    )
    model = Wav2Vec2BertModel(config).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    own = f"encoder.layers.{LISTENED_TO}."
    left = [name for name in missing if own not in name and "masked_spec_embed" not in name]
    assert not left and not unexpected, (left, unexpected)
    with torch.inference_mode():
        found = model(torch.from_numpy(x)[None], output_hidden_states=True)
    return found.hidden_states[LISTENED_TO][0].numpy()


def hubert(sizes: dict[str, int], weights: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    """The last hidden state."""
    config = HubertConfig(
        hidden_size=sizes["hidden"],
        intermediate_size=sizes["intermediate"],
        num_attention_heads=sizes["heads"],
        num_hidden_layers=2,
        conv_dim=(sizes["channels"],) * 7,
        feat_proj_layer_norm=False,
    )
    model: Any = HubertModel(config).eval()
    parametrize.remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    left = [name for name in missing if "masked_spec_embed" not in name]
    assert not left and not unexpected, (left, unexpected)
    with torch.inference_mode():
        return model(torch.from_numpy(x)[None]).last_hidden_state[0].numpy()


def main(folder: Path) -> None:
    """Read, run, write."""
    inputs = np.load(folder / "inputs.npz")
    sizes = json.loads((folder / "sizes.json").read_text())

    def weights(prefix: str) -> dict[str, torch.Tensor]:
        return {
            name.removeprefix(prefix): torch.from_numpy(inputs[name])
            for name in inputs.files
            if name.startswith(prefix)
        }

    sound = inputs["sound"]
    heard = features(sound)
    np.savez(
        folder / "outputs.npz",
        features=heard,
        w2v=w2v_bert(sizes["w2v"], weights("w2v."), heard.astype(np.float32)),
        hubert=hubert(sizes["hubert"], weights("hubert."), sound),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
