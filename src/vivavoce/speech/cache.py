"""Speech that was spoken before: the least recently used of it is forgotten first.

The key is everything that alters the sound. What is kept is int16 at the engine's rate, before
resampling and encoding, so one entry serves every format.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivavoce.types import Samples, SpeechRequest, Voice

Key = Hashable


def cache_key(
    request: SpeechRequest, voice: Voice, language: str | None, lexicon: frozenset[tuple[str, str]]
) -> Key:
    """Everything that alters the sound; format, rate and chunking do not."""
    return (
        voice.engine,
        voice.id,
        voice.created_at_s,
        voice.version,
        language,
        request.text,
        request.speed,
        request.instructions,
        request.sampling,
        request.normalize,
        request.ssml,
        lexicon,
        frozenset(request.options.items()),
    )


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How full the cache is and how often it helped."""

    entries: int
    size_bytes: int
    hits: int


class AudioCache:
    """Bounded in entries and in bytes; 0 entries switches it off."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, NDArray[np.int16]] = OrderedDict()
        self._size_bytes = 0
        self._hits = 0

    @property
    def stats(self) -> CacheStats:
        """A snapshot."""
        return CacheStats(len(self._entries), self._size_bytes, self._hits)

    def get(self, key: Key) -> Samples | None:
        """The sound kept under a key, float32, or None."""
        pcm = self._entries.get(key)
        if pcm is None:
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return pcm.astype(np.float32) / np.float32(32768.0)

    def put(self, key: Key, pcm: NDArray[np.int16]) -> None:
        """Keep sound, forgetting older entries; too large a piece is not kept at all."""
        if self.max_entries == 0 or pcm.nbytes > self._max_bytes // 4:
            return
        self._drop(key)
        self._entries[key] = pcm
        self._size_bytes += pcm.nbytes
        while len(self._entries) > self.max_entries or self._size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> int:
        """Forget everything; returns how many entries there were."""
        count = len(self._entries)
        self._entries.clear()
        self._size_bytes = 0
        return count

    def _drop(self, key: Key) -> None:
        pcm = self._entries.pop(key, None)
        if pcm is not None:
            self._size_bytes -= pcm.nbytes
