"""The evaluated beginnings of prompts, one a voice, kept for the next row that begins so."""

from __future__ import annotations

from collections import OrderedDict

from vivavoce.engines.neutts.gguf.llama_context import LlamaContext, State


class Templates:
    """States of a context's sequences, the least lately used given up first.

    ``most_tokens`` is how many tokens they may hold together.
    """

    def __init__(self, context: LlamaContext, most_tokens: int) -> None:
        self._context, self._most_tokens = context, most_tokens
        self._held: OrderedDict[bytes, tuple[State, int]] = OrderedDict()

    def give(self, key: bytes, sequence: int) -> int:
        """Let ``sequence`` begin with the template ``key``; its length, 0 where there is none."""
        found = self._held.get(key)
        if found is None:
            return 0
        self._held.move_to_end(key)
        state, length = found
        self._context.restore(sequence, state)
        return length

    def keep(self, key: bytes, sequence: int, length: int) -> None:
        """Remember the ``length`` tokens that ``sequence`` holds, if there is room at all."""
        if key in self._held or length > self._most_tokens:
            return
        while self._used() + length > self._most_tokens:
            self._held.popitem(last=False)
        self._held[key] = self._context.save(sequence), length

    def _used(self) -> int:
        return sum(length for _, length in self._held.values())
