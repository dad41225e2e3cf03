"""llama.cpp's context: a batch of tokens of several sequences in, scores out.

A thin layer over llama.h: sequences are numbers, their keys and values share one pool of cells.
Not thread-safe; ``decode`` releases the interpreter lock.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.llama_library import last_complaint, library
from vivavoce.engines.neutts.gguf.llama_model import LlamaModel
from vivavoce.errors import EngineError, SetupError

Floats: TypeAlias = NDArray[np.float32]

GGML_F32, GGML_F16 = 0, 1


@dataclass(frozen=True, slots=True)
class ContextShape:
    """Sizes of a context.

    ``cells`` tokens are held in all, of ``sequences`` sequences; a batch has at most
    ``batch_tokens``, of which one a sequence may ask for scores. ``exact`` keeps keys and values
    in float32 instead of float16. ``flash_attention`` is llama.cpp's: 0 off, 1 on, -1 its own
    choice. On a CPU it makes scores depend on how a prompt is sliced (by 0.01); without it they
    do not.
    """

    cells: int
    sequences: int
    batch_tokens: int
    exact: bool = False
    unified: bool = True
    flash_attention: int = 0


class Batch:
    """Tokens to evaluate at once, in buffers that are filled anew each time."""

    def __init__(self, room: int) -> None:
        self.size = 0
        self._tokens = np.zeros(room, np.int32)
        self._positions = np.zeros(room, np.int32)
        self._wanted = np.zeros(room, np.int8)
        self._sequences = np.zeros(room, np.int32)
        self._one = np.ones(room, np.int32)
        cells = self._sequences.ctypes.data + 4 * np.arange(room, dtype=np.uint64)
        self._cells = cells.astype(np.uint64)

    def clear(self) -> None:
        """Begin anew."""
        self.size = 0

    def add(self, tokens: Ids, position: int, sequence: int, *, scores: bool) -> int:
        """Append tokens of one sequence from ``position`` on; the last's place in the batch.

        ``scores``: what may follow the last of them is wanted.
        """
        start, end = self.size, self.size + len(tokens)
        self._tokens[start:end] = tokens
        self._positions[start:end] = np.arange(position, position + len(tokens))
        self._sequences[start:end] = sequence
        self._wanted[start:end] = 0
        self._wanted[end - 1] = scores
        self.size = end
        return end - 1

    def as_struct(self, lib: Any) -> Any:
        """``struct llama_batch`` over the buffers."""

        def pointer(array: NDArray[Any], kind: Any) -> Any:
            return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

        number = ctypes.c_int32
        return lib.llama_batch(
            n_tokens=self.size,
            token=pointer(self._tokens, lib.llama_token),
            embd=None,
            pos=pointer(self._positions, lib.llama_pos),
            n_seq_id=pointer(self._one, number),
            seq_id=pointer(self._cells, ctypes.POINTER(lib.llama_seq_id)),
            logits=pointer(self._wanted, ctypes.c_int8),
        )


class LlamaContext:
    """An evaluation context over an open model; ``close`` before the model is closed."""

    def __init__(self, model: LlamaModel, shape: ContextShape) -> None:
        self._lib = library()
        self._rows = model.rows
        self.batch = Batch(shape.batch_tokens)
        params = self._lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = shape.cells, shape.sequences
        params.n_batch = params.n_ubatch = shape.batch_tokens
        if hasattr(params, "n_outputs_max"):  # since llama.cpp of 2026
            params.n_outputs_max = shape.sequences
        params.type_k = params.type_v = GGML_F32 if shape.exact else GGML_F16
        params.kv_unified = shape.unified
        params.flash_attn_type = shape.flash_attention
        params.no_perf = True
        last_complaint()
        self._pointer: Any = self._lib.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise SetupError(f"llama.cpp cannot make a context: {last_complaint()}.")
        self._memory: Any = self._lib.llama_get_memory(self._pointer)
        self._struct = self.batch.as_struct(self._lib)

    def close(self) -> None:
        """Give the memory back."""
        if self._pointer:
            self._lib.llama_free(self._pointer)
            self._pointer = None

    def set_threads(self, count: int) -> None:
        """How many threads the next ``decode`` takes."""
        self._lib.llama_set_n_threads(self._pointer, count, count)

    def decode(self) -> None:
        """Evaluate the batch. Raises EngineError where llama.cpp cannot."""
        self._struct.n_tokens = self.batch.size
        result = self._lib.llama_decode(self._pointer, self._struct)
        if result != 0:
            raise EngineError(f"llama.cpp could not evaluate ({result}): {last_complaint()}.")

    def scores(self, place: int) -> Floats:
        """What may follow the token at ``place``: [rows] float32, valid until ``decode``."""
        pointer = self._lib.llama_get_logits_ith(self._pointer, place)
        if not pointer:
            raise EngineError(f"llama.cpp has no scores: {last_complaint()}.")
        address = ctypes.addressof(pointer.contents)
        buffer = (ctypes.c_float * self._rows).from_address(address)
        return np.ctypeslib.as_array(buffer)

    def fork(self, source: int, target: int, length: int) -> None:
        """Let ``target`` share the first ``length`` tokens of ``source``."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def clear(self, sequence: int) -> None:
        """Forget a sequence; cells that no other one shares are free."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def length(self, sequence: int) -> int:
        """How many tokens of a sequence are held."""
        return int(self._lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1
