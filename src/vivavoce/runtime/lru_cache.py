"""A cache of what was used last, bounded by how many and by how large they are together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LRUCache(Generic[Key, Value]):
    """The ``most`` values that were asked for last, each made once.

    With ``size`` also no more than ``most_size`` of them together: what is larger by itself is
    made each time.
    """

    def __init__(
        self, most: int, most_size: int = 0, size: Callable[[Value], int] | None = None
    ) -> None:
        self._most, self._most_size, self._size = most, most_size, size
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self.held = 0

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of ``key``, made where it is not kept; drops the one not used for longest."""
        if key not in self._kept:
            made = make()
            if not self.make_room(self._sized(made)):
                return made
            self._kept[key] = made
            self.held += self._sized(made)
        self._kept.move_to_end(key)
        return self._kept[key]

    def find(self, key: Key) -> Value | None:
        """The value of ``key`` where it is kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def make_room(self, size: int) -> bool:
        """Drop what was not used for longest, until one more of ``size`` can be kept.

        False where it is too large by itself; nothing is dropped then.
        """
        if self._size is not None and size > self._most_size:
            return False
        while len(self._kept) >= self._most or self.held + size > self._most_size:
            self.held -= self._sized(self._kept.popitem(last=False)[1])
        return True

    def clear(self) -> None:
        """Drop all."""
        self._kept.clear()
        self.held = 0

    def _sized(self, value: Value) -> int:
        return 0 if self._size is None else self._size(value)
