"""llama.cpp's context: a batch of tokens of several sequences in, scores out.

A thin layer over llama.h: sequences are numbers, each has cells of its own for keys and values, a
token's place in which is its position. So on a CPU the scores of a sequence are the same to the bit
whoever else is in a batch, whatever the number of threads, and in whatever parts of at least
``SHORTEST`` tokens they were evaluated: each sum has its terms in the same order, and what other
sequences make longer is zeros at its end. That holds for one token each of several sequences
(neighbors in number, or they are evaluated one after another) or for tokens of one sequence, not
for both mixed in one batch, and not with flash attention.

Not thread-safe; ``decode`` releases the interpreter lock.
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.llama_library import last_complaint, library
from vivavoce.engines.neutts.gguf.llama_model import LlamaModel
from vivavoce.errors import EngineError, SetupError

log = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[np.float32]

State: TypeAlias = NDArray[np.uint8]
"""What a sequence holds, as llama.cpp writes it: keys and values of all its tokens."""

GGML_F32, GGML_F16 = 0, 1
SHORTEST = 2
"""A single token's products are summed otherwise than those of several."""

CELLS_STEP = 256
"""llama.cpp's own step of a sequence's cells."""


@dataclass(frozen=True, slots=True)
class ContextShape:
    """Sizes of a context.

    Each of ``sequences`` holds up to ``tokens``; a batch has at most ``batch_tokens``, of which one
    a sequence may ask for scores. ``exact`` keeps keys and values in float32 instead of float16.
    ``flash_attention`` is llama.cpp's: 0 off, 1 on, -1 its own choice. On a CPU it adds up in an
    order that depends on threads and neighbors, in float16.
    """

    tokens: int
    sequences: int
    batch_tokens: int
    exact: bool = False
    flash_attention: int = 0

    @property
    def cells(self) -> int:
        """Cells of all sequences."""
        return -(-self.tokens // CELLS_STEP) * CELLS_STEP * self.sequences


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
        params.kv_unified = False
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
            raise _failed(f"could not evaluate ({result})")

    def scores(self, place: int) -> Floats:
        """What may follow the token at ``place``: [rows] float32, valid until ``decode``."""
        pointer = self._lib.llama_get_logits_ith(self._pointer, place)
        if not pointer:
            raise _failed("has no scores")
        address = ctypes.addressof(pointer.contents)
        buffer = (ctypes.c_float * self._rows).from_address(address)
        return np.ctypeslib.as_array(buffer)

    def save(self, sequence: int) -> State:
        """A copy of what a sequence holds."""
        size = self._lib.llama_state_seq_get_size(self._pointer, sequence)
        state = np.empty(size, np.uint8)
        if self._lib.llama_state_seq_get_data(self._pointer, _bytes(state), size, sequence) != size:
            raise _failed("could not save a sequence")
        return state

    def restore(self, sequence: int, state: State) -> None:
        """Let a sequence hold what another one did, and nothing else."""
        size, put = state.size, self._lib.llama_state_seq_set_data
        if put(self._pointer, _bytes(state), size, sequence) != size:
            raise _failed("could not restore a sequence")

    def move(self, source: int, target: int) -> None:
        """Let ``target`` hold what ``source`` does, and ``source`` nothing."""
        state = self.save(source)
        self.clear(source)
        self.restore(target, state)

    def clear(self, sequence: int) -> None:
        """Forget a sequence."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def length(self, sequence: int) -> int:
        """How many tokens of a sequence are held."""
        return int(self._lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1


def _bytes(state: State) -> Any:
    return ctypes.cast(state.ctypes.data, ctypes.POINTER(ctypes.c_uint8))


def _failed(what: str) -> EngineError:
    """An error for callers; llama.cpp's own words are for the log."""
    log.error("llama.cpp %s: %s", what, last_complaint())
    return EngineError(f"llama.cpp {what}.")
