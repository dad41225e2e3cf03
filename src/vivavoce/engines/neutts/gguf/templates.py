"""The evaluated beginnings of prompts, one a voice, kept for the next row that begins so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from vivavoce.engines.neutts.gguf.llama_context import LlamaContext


class Templates:
    """Sequences of a context that hold templates, the least lately used given up first.

    ``cells`` is how many tokens they may take together.
    """

    def __init__(self, context: LlamaContext, sequences: Sequence[int], cells: int) -> None:
        self._context, self._cells = context, cells
        self._free = list(sequences)
        self._held: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def fork(self, key: bytes, row: int) -> int:
        """Let ``row`` begin with the template ``key``; its length, 0 where there is none."""
        found = self._held.get(key)
        if found is None:
            return 0
        self._held.move_to_end(key)
        sequence, length = found
        self._context.fork(sequence, row, length)
        return length

    def keep(self, key: bytes, row: int, length: int) -> None:
        """Remember the first ``length`` tokens of ``row`` as ``key``, if there is room at all."""
        if key in self._held or length > self._cells:
            return
        while self._held and (not self._free or self._used() + length > self._cells):
            self._drop_oldest()
        if not self._free:
            return
        sequence = self._free.pop()
        self._context.fork(row, sequence, length)
        self._held[key] = sequence, length

    def _drop_oldest(self) -> None:
        sequence, _ = self._held.popitem(last=False)[1]
        self._context.clear(sequence)
        self._free.append(sequence)

    def _used(self) -> int:
        return sum(length for _, length in self._held.values())
