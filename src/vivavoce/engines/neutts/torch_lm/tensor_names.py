"""Names and shapes of every tensor a checkpoint must hold, and how they are fused in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from vivavoce.engines.neutts.torch_lm.config import LmConfig

Shape: TypeAlias = tuple[int, ...]
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"

FUSED = {
    "self_attn.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Weights that are one in memory, and the published ones stacked in them, in order."""


def tensor_shapes(config: LmConfig, *, tied: bool) -> dict[str, Shape]:
    """The tensors of a checkpoint by their published names."""
    table = (config.vocab_size, config.hidden_size)
    shapes = {EMBEDDING: table, "model.norm.weight": (config.hidden_size,)}
    for layer in range(config.num_hidden_layers):
        shapes |= dict(_layer(f"model.layers.{layer}.", config))
    return shapes if tied else shapes | {HEAD: table}


def _layer(at: str, config: LmConfig) -> Iterator[tuple[str, Shape]]:
    width, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    for name, size in (("q", queries), ("k", keys), ("v", keys)):
        yield f"{at}self_attn.{name}_proj.weight", (size, width)
        if config.qkv_bias:
            yield f"{at}self_attn.{name}_proj.bias", (size,)
        if config.qk_norm and name != "v":
            yield f"{at}self_attn.{name}_norm.weight", (config.head_dim,)
    yield f"{at}self_attn.o_proj.weight", (width, queries)
    yield f"{at}mlp.gate_proj.weight", (inner, width)
    yield f"{at}mlp.up_proj.weight", (inner, width)
    yield f"{at}mlp.down_proj.weight", (width, inner)
    yield f"{at}input_layernorm.weight", (width,)
    yield f"{at}post_attention_layernorm.weight", (width,)


def published_parts(name: str) -> tuple[str, ...]:
    """The published names stacked in a parameter of ``SpeechLm``: ``layers.0.self_attn.qkv.bias``.

    Most are themselves.
    """
    for fused, parts in FUSED.items():
        if f".{fused}." in name:
            return tuple("model." + name.replace(fused, part) for part in parts)
    return ("model." + name,)
