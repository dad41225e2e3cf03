"""The evaluated beginnings of prompts, one a voice, kept for the next row that begins so."""

from __future__ import annotations

from vivavoce.engines.neutts.gguf.llama_context import LlamaContext, State
from vivavoce.runtime.lru_cache import LRUCache


class Templates:
    """States of a context's sequences, the least lately used given up first.

    ``most_tokens`` is how many tokens they may hold together.
    """

    def __init__(self, context: LlamaContext, most_tokens: int) -> None:
        self._context = context
        self._held: LRUCache[bytes, tuple[State, int]] = LRUCache(
            most_tokens, most_tokens, lambda held: held[1]
        )

    def give(self, key: bytes, sequence: int) -> int:
        """Let ``sequence`` begin with the template ``key``; its length, 0 where there is none."""
        held = self._held.find(key)
        if held is None:
            return 0
        state, length = held
        self._context.restore(sequence, state)
        return length

    def keep(self, key: bytes, sequence: int, length: int) -> None:
        """Remember the ``length`` tokens that ``sequence`` holds, if there is room at all."""
        if self._held.find(key) is None and self._held.make_room(length):
            self._held.get(key, lambda: (self._context.save(sequence), length))
