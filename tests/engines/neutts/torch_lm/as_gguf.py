"""A tiny checkpoint's weights as a GGUF file in F32, for llama.cpp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, RopeScalingType
from numpy.typing import NDArray
from safetensors.numpy import load_file

from vivavoce.testing.random_lm import RandomLm

LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OTHER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(wanted: RandomLm, folder: Path, path: Path) -> Path:
    """Write what ``make_random_lm(wanted, folder)`` made."""
    shape, tokens = wanted.shape, wanted.tokens()
    architecture = shape.family.architecture
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    if shape.rope_divisor != 1.0:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.rope_divisor)
    writer.add_vocab_size(len(tokens.names))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe" if architecture == "llama" else "qwen2")
    writer.add_token_list(tokens.names)
    writer.add_token_types(tokens.kinds)
    writer.add_token_merges(tokens.merges)
    writer.add_bos_token_id(tokens.bos)
    writer.add_eos_token_id(tokens.eos)
    writer.add_add_bos_token(architecture == "llama")
    for name, values in load_file(folder / "model.safetensors").items():
        stem, kind = name.rsplit(".", 1)
        if architecture == "llama" and stem.endswith(("q_proj", "k_proj")):
            ordered = interleaved(values, shape.head_size)
        else:
            ordered = values
        writer.add_tensor(f"{renamed(stem)}.{kind}", np.ascontiguousarray(ordered, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def renamed(stem: str) -> str:
    """A published module's name as GGUF has it."""
    if stem in OTHER:
        return OTHER[stem]
    _, _, number, rest = stem.split(".", 3)
    return f"blk.{number}.{LAYER[rest]}"


def interleaved(weight: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Rows of each head reordered: llama.cpp turns neighbors of a Llama model, not halves."""
    halves = weight.reshape(-1, 2, size // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)
