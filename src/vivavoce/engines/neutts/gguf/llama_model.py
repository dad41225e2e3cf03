"""One GGUF file opened by llama.cpp: its weights, or its vocabulary alone."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from vivavoce.engines.neutts.gguf.llama_library import last_complaint, library
from vivavoce.errors import ModelFileError

SPECIAL_ATTRIBUTES = 1 << 3 | 1 << 4
"""``LLAMA_TOKEN_ATTR_CONTROL`` and ``_USER_DEFINED``."""

DESCRIPTION_BYTES = 128


class LlamaModel:
    """An open model; ``close`` gives its memory back.

    Raises ModelFileError where llama.cpp cannot read the file.
    """

    def __init__(self, path: Path, *, vocab_only: bool = False, gpu_layers: int = 0) -> None:
        self._lib = library()
        params = self._lib.llama_model_default_params()
        params.vocab_only = vocab_only
        params.n_gpu_layers = gpu_layers
        last_complaint()
        self.pointer: Any = self._lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.pointer:
            raise ModelFileError(f"llama.cpp cannot read {path}: {last_complaint()}.")
        self._vocab: Any = self._lib.llama_model_get_vocab(self.pointer)
        self.rows = int(self._lib.llama_vocab_n_tokens(self._vocab))

    def close(self) -> None:
        """Give the memory back; contexts of it must be closed before."""
        if self.pointer:
            self._lib.llama_model_free(self.pointer)
            self.pointer = None

    @property
    def format(self) -> str:
        """How its weights are stored, as llama.cpp calls it: Q4_0, BF16, "all F32"."""
        text = ctypes.create_string_buffer(DESCRIPTION_BYTES)
        self._lib.llama_model_desc(self.pointer, text, len(text))
        words = text.value.decode("utf-8", "replace").split(maxsplit=2)
        return words[2].removeprefix("(guessed) ") if len(words) == 3 else "unknown"

    @property
    def bos(self) -> int | None:
        """The token every prompt begins with; None where the model wants none."""
        if not self._lib.llama_vocab_get_add_bos(self._vocab):
            return None
        return int(self._lib.llama_vocab_bos(self._vocab))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text, without BOS. ``special``: control tokens are parsed by their names.

        Names of user-defined tokens are parsed either way.
        """
        raw = text.encode()
        room = len(raw) + 1
        ids = (ctypes.c_int32 * room)()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, False, special)
        return list(ids[:count])

    def name(self, token: int) -> str:
        """A token as it is written in the file."""
        raw: bytes = self._lib.llama_vocab_get_text(self._vocab, token)
        return raw.decode("utf-8", "replace")

    def is_special(self, token: int) -> bool:
        """Whether it is a control or user-defined token."""
        return bool(self._lib.llama_vocab_get_attr(self._vocab, token) & SPECIAL_ATTRIBUTES)
