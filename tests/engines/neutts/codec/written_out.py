"""The decoder as its formulas say, in float64 and one code after another where that is plain."""

from __future__ import annotations

from typing import Any

import numpy as np

from vivavoce.engines.neutts.codec.network import DecoderWeights

HOP, FRAME = 480, 1920


def decoded(weights: DecoderWeights, codes: Any) -> Any:
    """Codes (T,) to samples (480 * T,)."""
    w = {name: weights.read(name).astype(np.float64) for name in weights.places}
    digits = np.array([[code // 4**i % 4 for i in range(8)] for code in codes.tolist()])
    x = _linear(w, "generator.quantizer.project_out", (digits - 2) / 2)
    x = _linear(w, "fc_post_a", x)
    x = _convolution(w, "generator.backbone.embed", x)
    x = _blocks(w, "generator.backbone.prior_net", x)
    for layer in range(weights.shape.depth):
        at = f"generator.backbone.transformers.{layer}"
        x = x + _attention(w, f"{at}.att", _rms(x) * w[f"{at}.att_norm.weight"])
        y = (_rms(x) * w[f"{at}.ffn_norm.weight"]) @ w[f"{at}.mlp.fc1.weight"].T
        x = x + _swish(y) @ w[f"{at}.mlp.fc2.weight"].T
    x = _blocks(w, "generator.backbone.post_net", x)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    norm = "generator.backbone.final_layer_norm"
    x = _linear(w, "generator.head.out", x * w[f"{norm}.weight"] + w[f"{norm}.bias"])
    return _istft(np.minimum(np.exp(x[:, :961]), 100) * np.exp(1j * x[:, 961:]))


def _linear(w: Any, at: str, x: Any) -> Any:
    return x @ w[f"{at}.weight"].T + w[f"{at}.bias"]


def _convolution(w: Any, at: str, x: Any) -> Any:
    weight = w[f"{at}.weight"]
    side = weight.shape[2] // 2
    padded = np.pad(x, ((side, side), (0, 0)))
    rows = [np.einsum("ki,oik->o", padded[t : t + 2 * side + 1], weight) for t in range(len(x))]
    return np.array(rows) + w[f"{at}.bias"]


def _blocks(w: Any, at: str, x: Any) -> Any:
    for block in range(2):
        y = x
        for number in (1, 2):
            y = _swish(_group_norm(w, f"{at}.{block}.norm{number}", y))
            y = _convolution(w, f"{at}.{block}.conv{number}", y)
        x = x + y
    return x


def _group_norm(w: Any, at: str, x: Any) -> Any:
    out = np.empty_like(x)
    for group in np.split(np.arange(x.shape[1]), 32):
        part = x[:, group]
        out[:, group] = (part - part.mean()) / np.sqrt(part.var() + 1e-6)
    return out * w[f"{at}.weight"] + w[f"{at}.bias"]


def _rms(x: Any) -> Any:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def _swish(x: Any) -> Any:
    return x / (1 + np.exp(-x))


def _attention(w: Any, at: str, x: Any) -> Any:
    queries, keys, values = np.split(x @ w[f"{at}.c_attn.weight"].T, 3, axis=1)
    heads = []
    for head in np.split(np.arange(x.shape[1]), x.shape[1] // 64):
        scores = np.exp(queries[:, head] @ keys[:, head].T / 8)
        heads.append(scores / scores.sum(1, keepdims=True) @ values[:, head])
    return np.concatenate(heads, 1) @ w[f"{at}.c_proj.weight"].T


def _istft(spectra: Any) -> Any:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    total = np.zeros(HOP * (len(spectra) + 3))
    energy = np.zeros_like(total)
    for number, spectrum in enumerate(spectra):
        total[number * HOP :][:FRAME] += np.fft.irfft(spectrum) * window
        energy[number * HOP :][:FRAME] += window**2
    return (total[720:-720] / energy[720:-720]).astype(np.float64)
