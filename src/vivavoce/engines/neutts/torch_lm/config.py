"""What a checkpoint says of its language model in config.json.

Fields are named as the keys they are read from. What this package cannot compute (another
activation, a sliding window, an unknown kind of RoPE scaling) is refused, not ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from vivavoce.errors import ModelFileError
from vivavoce.runtime.json_config import JsonObject

CONFIG = "config.json"
Architecture: TypeAlias = Literal["qwen2", "llama", "qwen3"]
ARCHITECTURES: MappingProxyType[str, Architecture] = MappingProxyType(
    {"Qwen2ForCausalLM": "qwen2", "LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}
)
"""By the name of the published class, as GGUF's ``general.architecture`` names it."""

SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How angles are stretched for long contexts.

    ``linear`` divides every angle by ``factor`` (Chen et al. 2023). ``llama3`` divides only slow
    rotations, with a ramp between the two wavelengths that ``original_positions`` over
    ``low_freq_factor`` and over ``high_freq_factor`` give (Llama 3.1).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True, slots=True)
class LmConfig:
    """The sizes of a decoder. ``tied``: the head is the embedding table; None where not said."""

    architecture: Architecture
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool | None

    @property
    def qkv_bias(self) -> bool:
        """Whether query, key and value projections have a bias."""
        return self.architecture == "qwen2"

    @property
    def qk_norm(self) -> bool:
        """Whether the heads of queries and keys are normalized."""
        return self.architecture == "qwen3"

    @classmethod
    def load(cls, folder: Path) -> LmConfig:
        """Read ``folder``/config.json. Raises ModelFileError that names the file and the key."""
        return read_config(JsonObject.read(folder / CONFIG))


def read_config(file: JsonObject) -> LmConfig:
    """The values of a config.json. Raises ModelFileError."""
    architecture = _architecture(file)
    _refuse_unknown(file)
    file.demand_positive(*SIZES)
    heads = file.get("num_attention_heads", int)
    groups = _optional(file, "num_key_value_heads", heads)
    if heads % groups:
        raise file.fault("num_attention_heads", f"is {heads}, no multiple of {groups}")
    sizes = {name: file.get(name, int) for name in SIZES}
    tied = file.values.get("tie_word_embeddings")
    return LmConfig(
        architecture=architecture,
        num_key_value_heads=groups,
        head_dim=_head_dim(file, sizes["hidden_size"], heads),
        rms_norm_eps=file.get("rms_norm_eps", float),
        rope_theta=_theta(file),
        rope_scaling=_scaling(file),
        tied=None if tied is None else file.get("tie_word_embeddings", bool),
        **sizes,
    )


def _architecture(file: JsonObject) -> Architecture:
    named = file.get("architectures", tuple[str, ...])
    if len(named) != 1 or named[0] not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise file.fault("architectures", f"is {list(named)}; known are {known}")
    found = ARCHITECTURES[named[0]]
    if "model_type" in file.values:
        file.demand("model_type", found)
    return found


def _refuse_unknown(file: JsonObject) -> None:
    file.demand("hidden_act", "silu")
    for key in ("use_sliding_window", "attention_bias", "mlp_bias"):
        if file.values.get(key) is not None:
            file.demand(key, False)


def _optional(file: JsonObject, key: str, default: int) -> int:
    if file.values.get(key) is None:
        return default
    file.demand_positive(key)
    return int(file.get(key, int))


def _head_dim(file: JsonObject, hidden: int, heads: int) -> int:
    if file.values.get("head_dim") is None and hidden % heads:
        raise file.fault("hidden_size", f"is {hidden}, no multiple of {heads} heads")
    size = _optional(file, "head_dim", hidden // heads)
    if size % 2:
        raise file.fault("head_dim", f"is {size}, which is odd")
    return size


def _rope(file: JsonObject) -> JsonObject:
    """Where the scaling stands: ``rope_parameters`` (from transformers 5) or ``rope_scaling``."""
    for key in ("rope_parameters", "rope_scaling"):
        if file.values.get(key) is not None:
            return file.child(key)
    return JsonObject(file.file, {"rope_type": "default"}, "rope_scaling.")


def _theta(file: JsonObject) -> float:
    rope = _rope(file)
    place = rope if "rope_theta" in rope.values else file
    theta: float = place.get("rope_theta", float)
    if not (math.isfinite(theta) and theta > 0):
        raise place.fault("rope_theta", f"is {theta}, not above zero")
    return theta


def _scaling(file: JsonObject) -> RopeScaling | None:
    rope = _rope(file)
    key = "rope_type" if "rope_type" in rope.values else "type"
    kind = rope.get(key, str)
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", _factor(rope, "factor"))
    if kind == "llama3":
        return _llama3(rope)
    raise rope.fault(key, f"is {kind!r}; known are default, linear and llama3")


def _llama3(rope: JsonObject) -> RopeScaling:
    low, high = _factor(rope, "low_freq_factor"), _factor(rope, "high_freq_factor")
    if high <= low:
        raise rope.fault("high_freq_factor", f"is {high}, not above low_freq_factor")
    positions = "original_max_position_embeddings"
    rope.demand_positive(positions)
    return RopeScaling("llama3", _factor(rope, "factor"), low, high, rope.get(positions, int))


def _factor(rope: JsonObject, key: str) -> float:
    value: float = rope.get(key, float)
    if not (math.isfinite(value) and value > 0):
        raise rope.fault(key, f"is {value}, not above zero")
    return value


def resolve_tied(config: LmConfig, *, has_head: bool, where: Path) -> bool:
    """Whether the head is the embedding table; decided by the file where config.json is silent.

    Raises ModelFileError where the head is said to be separate and is not there. A tied
    checkpoint may store the head once more; it is not read.
    """
    tied = not has_head if config.tied is None else config.tied
    if not tied and not has_head:
        raise ModelFileError(f"{where}: the head is not tied, but lm_head.weight is missing.")
    return tied
