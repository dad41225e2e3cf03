"""The published arithmetic of Qwen2, Llama and Qwen3 in NumPy, float64, one token after another.

Straight from a checkpoint's files: nothing of the package is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Array = NDArray[np.float64]


def all_logits(folder: Path, ids: Sequence[int]) -> Array:
    """Logits [len(ids), vocabulary] after each token."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    stored = load_file(folder / "model.safetensors")
    w = {name: values.astype(np.float64) for name, values in stored.items() if "layers" in name}
    table = stored["model.embed_tokens.weight"]
    x = table[list(ids)].astype(np.float64)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        x = x + attention(norm(x, w[at + "input_layernorm.weight"], config), w, at, config)
        y = norm(x, w[at + "post_attention_layernorm.weight"], config)
        gate, up = y @ w[at + "mlp.gate_proj.weight"].T, y @ w[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    x = norm(x, stored["model.norm.weight"].astype(np.float64), config)
    head = table if config["tie_word_embeddings"] else stored["lm_head.weight"]
    return x @ head.astype(np.float64).T


def norm(x: Array, weight: Array, config: Mapping[str, Any]) -> Array:
    """Root-mean-square norm over the last dimension."""
    scale = np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"])
    return x / scale * weight


def attention(x: Array, w: Mapping[str, Array], at: str, config: Mapping[str, Any]) -> Array:
    """Causal attention over all tokens so far, head by head."""
    at += "self_attn."
    heads, size = config["num_attention_heads"], config["head_dim"]
    shared = heads // config["num_key_value_heads"]
    parts = {}
    for name in "qkv":
        parts[name] = x @ w[f"{at}{name}_proj.weight"].T
        if f"{at}{name}_proj.bias" in w:
            parts[name] = parts[name] + w[f"{at}{name}_proj.bias"]
        parts[name] = parts[name].reshape(len(x), -1, size)
        if f"{at}{name}_norm.weight" in w:
            parts[name] = norm(parts[name], w[f"{at}{name}_norm.weight"], config)
    out = np.zeros((len(x), heads, size))
    for head in range(heads):
        query = turned(parts["q"][:, head], config)
        key, value = turned(parts["k"][:, head // shared], config), parts["v"][:, head // shared]
        for step in range(len(x)):
            scores = key[: step + 1] @ query[step] / np.sqrt(size)
            weights = np.exp(scores - scores.max())
            out[step, head] = weights / weights.sum() @ value[: step + 1]
    return out.reshape(len(x), -1) @ w[f"{at}o_proj.weight"].T


def turned(x: Array, config: Mapping[str, Any]) -> Array:
    """Rotary embedding: pairs (i, i + size / 2) turned by position times frequency."""
    size = x.shape[-1]
    frequencies = config["rope_theta"] ** -(np.arange(0, size, 2) / size)
    if config["rope_scaling"]:
        frequencies = frequencies / config["rope_scaling"]["factor"]
    angles = np.arange(len(x))[:, None] * frequencies
    first, second = x[:, : size // 2], x[:, size // 2 :]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate((first * cos - second * sin, second * cos + first * sin), -1)
