"""Keys and values of prompts' beginnings, kept so that a voice's is evaluated once."""

from __future__ import annotations

from collections import OrderedDict

from vivavoce.engines.neutts.torch_lm.kv import KVBuffer

KEPT = 16


class Templates:
    """The most recently used beginnings, by their token ids."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[int, ...], KVBuffer] = OrderedDict()

    def keep(self, ids: tuple[int, ...], kv: KVBuffer, row: int) -> None:
        """Copy the first ``len(ids)`` positions of a row."""
        part = (slice(None), slice(row, row + 1), slice(None), slice(0, len(ids)))
        self._kept[ids] = KVBuffer(kv.keys[part].clone(), kv.values[part].clone())
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def restore(self, ids: tuple[int, ...], kv: KVBuffer, row: int) -> int:
        """Put a beginning into a row: how many positions it has, 0 when it is not kept."""
        kept = self._kept.get(ids)
        if kept is None:
            return 0
        self._kept.move_to_end(ids)
        part = (slice(None), slice(row, row + 1), slice(None), slice(0, len(ids)))
        kv.keys[part] = kept.keys
        kv.values[part] = kept.values
        return len(ids)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
