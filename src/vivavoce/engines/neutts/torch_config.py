"""What a checkpoint in the Hugging Face layout says of its model: config.json and tokenizer.json.

Fields of ``LmConfig`` are named as the keys they are read from. What this package cannot compute
(another activation, a sliding window, an unknown kind of RoPE scaling) is refused, not ignored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np

from vivavoce.engines.neutts.backbone import SPEECH_CODES, Codes
from vivavoce.engines.neutts.family import FIRST_SPEECH, SPEECH_END, Family, find_family
from vivavoce.errors import InputError, MissingExtra, ModelFileError
from vivavoce.runtime.json_config import JsonObject
from vivavoce.runtime.nn.decoder import DecoderShape
from vivavoce.runtime.nn.rope import RopeScaling

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
SPECIAL = re.compile(r"(<\|\w+\|>)")
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
    def shape(self) -> DecoderShape:
        """The sizes of the layers."""
        return DecoderShape(
            self.hidden_size,
            self.intermediate_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.num_key_value_heads,
            self.head_dim,
            self.rms_norm_eps,
            qkv_bias=self.architecture == "qwen2",
            qk_norm=self.architecture == "qwen3",
            whole_norms=True,
        )

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


@dataclass(frozen=True, slots=True)
class TorchVocabulary:
    """The tokens of one checkpoint (contract of ``neutts.backbone.Vocabulary``).

    Added tokens (END, 65,536 speech codes) are looked up by name and never parsed out of text: text
    goes through the tokenizer without them, so that nothing a caller writes becomes a control
    token.
    """

    family: Family
    header_ids: tuple[int, ...]
    middle_ids: tuple[int, ...]
    end_id: int
    first_speech_id: int
    added: Mapping[str, int]
    text: Any

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Plain text to ids; names of special tokens are text like any other."""
        return tuple(self.text.encode(text, add_special_tokens=False).ids)

    def speech_ids(self, codes: Codes | Sequence[int]) -> tuple[int, ...]:
        """Ids of speech codes. Raises InputError for codes out of range."""
        given = np.asarray(codes, np.int64).reshape(-1)
        if given.size and (given.min() < 0 or given.max() >= SPEECH_CODES):
            raise InputError(f"Speech codes are 0 to {SPEECH_CODES - 1}.", param="voice")
        return tuple((given + self.first_speech_id).tolist())

    def token_id(self, token: str) -> int | None:
        """The id of a token by its name; None where unknown."""
        found = self.added.get(token)
        return self.text.token_to_id(token) if found is None else found


def load_vocabulary(folder: Path, architecture: str) -> TorchVocabulary:
    """Read ``folder``/tokenizer.json. Raises ModelFileError, MissingExtra."""
    if find_spec("tokenizers") is None:
        raise MissingExtra("A PyTorch backbone of NeuTTS", "neutts-torch")
    path = folder / TOKENIZER
    stored = _read(path)
    added = _added(path, stored)
    text = _text_tokenizer(path, stored)

    def find(token: str) -> int | None:
        found = added.get(token)
        return text.token_to_id(token) if found is None else found

    family = find_family(architecture, lambda token: find(token) is not None)
    first = find(FIRST_SPEECH) or 0
    _check_speech(path, first, added, text)
    bos = tuple(text.encode("", add_special_tokens=True).ids)

    def ids(pattern: str) -> tuple[int, ...]:
        return tuple(_mixed_ids(path, pattern, find, text))

    end = find(SPEECH_END) or 0
    return TorchVocabulary(
        family, bos + ids(family.header), ids(family.middle), end, first, added, text
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelFileError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        raise ModelFileError(f"{path} is no tokenizer.")
    return stored


def _added(path: Path, stored: Mapping[str, Any]) -> dict[str, int]:
    try:
        return {str(each["content"]): int(each["id"]) for each in stored.get("added_tokens") or ()}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: its added_tokens are wrong.") from error


def _text_tokenizer(path: Path, stored: Mapping[str, Any]) -> Any:
    """The tokenizer without its added tokens."""
    from tokenizers import Tokenizer

    plain = {**stored, "added_tokens": [], "padding": None, "truncation": None}
    try:
        return Tokenizer.from_str(json.dumps(plain))
    except Exception as error:
        raise ModelFileError(f"{path} cannot be used: {error}") from error


def _check_speech(path: Path, first: int, added: Mapping[str, int], text: Any) -> None:
    """Speech codes must follow one another: their ids are computed, not looked up."""
    for code in (1, 2, 255, 256, 4095, 32_767, SPEECH_CODES - 1):
        name = f"<|speech_{code}|>"
        found = added.get(name, text.token_to_id(name))
        if found != first + code:
            raise ModelFileError(f"{path}: {name} is {found}, not {first + code}.")


def _mixed_ids(path: Path, pattern: str, find: Any, text: Any) -> list[int]:
    """Ids of a layout's fixed text, its special tokens by name."""
    ids: list[int] = []
    for part in SPECIAL.split(pattern):
        if SPECIAL.fullmatch(part):
            ids.append(find(part))
        elif part:
            ids += text.encode(part, add_special_tokens=False).ids
    return ids
