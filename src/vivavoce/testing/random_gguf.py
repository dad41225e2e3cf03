"""GGUF files with random weights in the published shapes, for tests, benchmarks and checks.

They load wherever a published file does and say nothing anyone would understand. A random model
has no reason to end, so an end is planted: element 0 of the hidden state carries only what the
last token put there, some codes do (every ``end_every``-th), and END's row reads it alone. END
then follows such a code, whatever was said before, and no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zlib import crc32

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType
from gguf.quants import quant_shape_to_byte_shape, quantize
from numpy.typing import NDArray

from vivavoce.engines.neutts.backbone import SPEECH_CODES
from vivavoce.engines.neutts.family import AIR, NANO, TWO_E, Family
from vivavoce.errors import ModelFileError, UnknownModel
from vivavoce.testing.random_vocabulary import TokenList, token_list

Floats: TypeAlias = NDArray[np.float32]
Quantization: TypeAlias = Literal["F32", "Q8_0", "Q4_0"]

END_ELEMENT = 0
END_MARK, END_GAIN = 2.0, 60.0
LOGIT_SPREAD = 3.0
"""The head's logits are spread this far, so that sampling prefers some codes clearly."""

WRITER_GAIN = 3.0
"""So large that the layers drown the last token's embedding: the head would repeat it."""

WRITERS = ("attn_output.weight", "ffn_down.weight")
"""What writes into the hidden state, and must leave the end's element alone."""

BLOCK_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of one decoder."""

    family: Family
    hidden: int
    layers: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    rope_base: float
    norm_epsilon: float
    context_tokens: int
    rope_divisor: float = 1.0


PUBLISHED = {
    "neutts-air": ModelShape(AIR, 896, 24, 4864, 14, 2, 64, 1e6, 1e-6, 32_768),
    "neutts-nano": ModelShape(NANO, 576, 24, 2304, 9, 3, 64, 5e5, 1e-5, 2048, 32.0),
    "neutts-2e": ModelShape(TWO_E, 512, 28, 1536, 12, 4, 128, 1e6, 1e-6, 32_768),
}


def tiny(shape: ModelShape) -> ModelShape:
    """The same kind of model with two small layers."""
    return ModelShape(shape.family, 64, 2, 128, 4, 2, 16, shape.rope_base, shape.norm_epsilon, 2048)


def make_random_gguf(
    name: str,
    path: Path | str,
    *,
    small: bool = False,
    real_vocabulary: bool | None = None,
    quantization: Quantization = "Q4_0",
    seed: int = 0,
    end_every: int = 97,
) -> Path:
    """Write a random GGUF of ``neutts-air``, ``neutts-nano`` or ``neutts-2e`` to ``path``.

    ``small`` keeps the topology and makes it tiny, with 300 words instead of the published number
    (20 MB in F32); ``real_vocabulary`` decides on the words alone. With Q4_0 the head is Q8_0, as
    in published files. Every ``end_every``-th code is followed by END; 0: none is. The same
    arguments give the same bytes with the same numpy. Raises UnknownModel, and ModelFileError
    where the file cannot be written.
    """
    if name not in PUBLISHED:
        raise UnknownModel(name, PUBLISHED)
    shape = tiny(PUBLISHED[name]) if small else PUBLISHED[name]
    real = not small if real_vocabulary is None else real_vocabulary
    tokens = token_list(shape.family, real_size=real)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, name, shape, tokens, _Draw(shape, tokens, quantization, seed, end_every))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def _write(path: Path, name: str, shape: ModelShape, tokens: TokenList, draw: _Draw) -> None:
    writer = GGUFWriter(path, shape.family.architecture)
    _add_sizes(writer, f"random-{name}", shape, len(tokens.names))
    _add_tokenizer(writer, shape.family, tokens)
    tensors = list(_tensors(shape, len(tokens.names)))
    for tensor, size in tensors:
        kind = draw.kind(tensor, size)
        stored = size if kind is GGMLQuantizationType.F32 else quant_shape_to_byte_shape(size, kind)
        count = int(np.prod(stored)) * (4 if kind is GGMLQuantizationType.F32 else 1)
        dtype: Any = np.dtype(np.float32 if kind is GGMLQuantizationType.F32 else np.uint8)
        writer.add_tensor_info(tensor, stored, dtype, count, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, size in tensors:
        writer.write_tensor_data(draw.tensor(tensor, size))
    writer.close()


def _add_sizes(writer: GGUFWriter, name: str, shape: ModelShape, rows: int) -> None:
    writer.add_name(name)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head_size)
    if shape.rope_divisor != 1.0:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.rope_divisor)
    writer.add_vocab_size(rows)


def _add_tokenizer(writer: GGUFWriter, family: Family, tokens: TokenList) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe" if family is NANO else "qwen2")
    writer.add_token_list(tokens.names)
    writer.add_token_types(tokens.kinds)
    writer.add_token_merges(tokens.merges)
    writer.add_bos_token_id(tokens.bos)
    writer.add_eos_token_id(tokens.eos)
    writer.add_add_bos_token(family is NANO)
    layout = "phonemes" if family.layout == "phonemes" else "BPE"
    writer.add_string("neuphonic.input_format", layout)
    if family.emotions:
        writer.add_array("neuphonic.supported_emotions", list(family.emotions))


def _tensors(shape: ModelShape, rows: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, rows first, in the published order."""
    width, inner = shape.hidden, shape.feed_forward
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    yield "token_embd.weight", (rows, width)
    for layer in range(shape.layers):
        part = f"blk.{layer}."
        yield part + "attn_norm.weight", (width,)
        yield part + "attn_q.weight", (queries, width)
        yield part + "attn_k.weight", (keys, width)
        yield part + "attn_v.weight", (keys, width)
        yield part + "attn_output.weight", (width, queries)
        if shape.family is AIR:
            for letter, size in (("q", queries), ("k", keys), ("v", keys)):
                yield part + f"attn_{letter}.bias", (size,)
        if shape.family is TWO_E:
            for letter in "qk":
                yield part + f"attn_{letter}_norm.weight", (shape.head_size,)
        yield part + "ffn_norm.weight", (width,)
        yield part + "ffn_gate.weight", (inner, width)
        yield part + "ffn_up.weight", (inner, width)
        yield part + "ffn_down.weight", (width, inner)
    yield "output_norm.weight", (width,)


@dataclass(frozen=True)
class _Draw:
    """Random values of every tensor by its name; the order of asking does not matter."""

    model: ModelShape
    tokens: TokenList
    quantization: Quantization
    seed: int
    end_every: int

    def kind(self, name: str, shape: tuple[int, ...]) -> GGMLQuantizationType:
        """How a tensor is stored: vectors in F32, the head of a Q4_0 file in Q8_0."""
        if len(shape) == 1 or self.quantization == "F32":
            return GGMLQuantizationType.F32
        if name == "token_embd.weight":
            return GGMLQuantizationType.Q8_0
        return GGMLQuantizationType[self.quantization]

    def tensor(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A whole tensor as it is stored."""
        kind = self.kind(name, shape)
        rng = np.random.Generator(np.random.SFC64([self.seed, crc32(name.encode())]))
        if len(shape) == 1:
            mean = 1.0 if name.endswith("norm.weight") else 0.0
            return mean + rng.standard_normal(shape, dtype=np.float32) * np.float32(0.05)
        blocks = []
        for first in range(0, shape[0], BLOCK_ROWS):
            size = (min(BLOCK_ROWS, shape[0] - first), shape[1])
            block = rng.standard_normal(size, dtype=np.float32)
            block *= np.float32(self._spread(name, shape))
            self._plant_end(name, first, block)
            blocks.append(block if kind is GGMLQuantizationType.F32 else quantize(block, kind))
        return np.concatenate(blocks)

    def _spread(self, name: str, shape: tuple[int, ...]) -> float:
        if name == "token_embd.weight":
            return LOGIT_SPREAD / sqrt(shape[1])
        gain = WRITER_GAIN / sqrt(self.model.layers) if name.endswith(WRITERS) else 1.0
        return gain / sqrt(shape[1])

    def _plant_end(self, name: str, first: int, block: Floats) -> None:
        if name.endswith(WRITERS) and first == 0:
            block[END_ELEMENT] = 0.0
        if name != "token_embd.weight":
            return
        block[:, END_ELEMENT] = 0.0
        rows = np.arange(first, first + len(block))
        if self.end_every:
            codes = rows - self.tokens.first_speech
            ending = (codes >= 0) & (codes < SPEECH_CODES) & (codes % self.end_every == 0)
            block[ending, END_ELEMENT] = END_MARK
        block[rows == self.tokens.end] = 0.0
        block[rows == self.tokens.end, END_ELEMENT] = END_GAIN
