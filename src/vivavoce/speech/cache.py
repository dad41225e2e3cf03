"""Speech that was spoken before: the least recently used of it is forgotten first.

The key is a digest of everything that alters the sound. What is kept is int16 at the engine's
rate, before resampling and encoding, so one entry serves every format.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vivavoce.audio.pcm import to_int16
from vivavoce.types import Samples, SpeechRequest, Voice

if TYPE_CHECKING:
    from vivavoce.audio.pcm import Int16Samples

Key: TypeAlias = bytes

ENTRY_BYTES = 512
"""What an entry takes besides its sound: its key, the array's own, its place in the dictionary."""

LARGEST_SHARE = 4
"""One entry takes at most this part of the cache: it may not push out all the others."""

MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Speech that is longer as int16 is not kept: what one stream holds is bounded."""


def cache_key(
    request: SpeechRequest,
    voice: Voice,
    language: str | None,
    lexicon_digest: bytes,
    *,
    grouped: bool = False,
) -> Key:
    """32 bytes for everything that alters the sound; format, rate and chunking do not.

    ``lexicon_digest`` stands for every entry that applies, the server's and the request's own.
    ``grouped``: the engine gets sentences in groups, which sound another way than one by one.
    """
    alters = (
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
        lexicon_digest,
        sorted((name, repr(value)) for name, value in request.options.items()),
        grouped,
    )
    return hashlib.sha256(repr(alters).encode()).digest()


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How full the cache is, all included, and how often it helped."""

    entries: int
    size_bytes: int
    hits: int


class AudioCache:
    """Bounded in entries and in bytes, keys and overhead included; 0 entries switches it off."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, Int16Samples] = OrderedDict()
        self._size_bytes = 0
        self._hits = 0

    @property
    def stats(self) -> CacheStats:
        """A snapshot."""
        return CacheStats(len(self._entries), self._size_bytes, self._hits)

    @property
    def max_sound_bytes(self) -> int:
        """The longest sound that is kept, in bytes of int16; 0 where nothing is."""
        if self.max_entries == 0:
            return 0
        return max(self._max_bytes // LARGEST_SHARE - ENTRY_BYTES, 0)

    def get(self, key: Key) -> Int16Samples | None:
        """The sound kept under a key, int16 (n,), or None. It must not be written to."""
        pcm = self._entries.get(key)
        if pcm is None:
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return pcm

    def put(self, key: Key, pcm: Int16Samples) -> None:
        """Keep sound, int16 (n,), forgetting older entries; too large a piece is not kept."""
        if self.max_entries == 0 or pcm.nbytes > self.max_sound_bytes:
            return
        self._drop(key)
        pcm.flags.writeable = False
        self._entries[key] = pcm
        self._size_bytes += pcm.nbytes + ENTRY_BYTES
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
            self._size_bytes -= pcm.nbytes + ENTRY_BYTES


class Keeping:
    """One stream's sound on its way into the cache: nothing is there before ``keep``.

    What grows beyond the longest entry or ``MAX_KEPT_BYTES`` is let go at once.
    """

    def __init__(self, cache: AudioCache, key: Key) -> None:
        self._cache = cache
        self._key = key
        self._pieces: list[Int16Samples] | None = []
        self._left_bytes = min(cache.max_sound_bytes, MAX_KEPT_BYTES)

    def push(self, samples: Samples) -> None:
        """Some of the sound, float32 (n,)."""
        if self._pieces is None:
            return
        self._pieces.append(to_int16(samples))
        self._left_bytes -= self._pieces[-1].nbytes
        if self._left_bytes < 0:
            self._pieces = None

    def keep(self) -> None:
        """It was spoken whole."""
        if self._pieces is not None:
            self._cache.put(self._key, np.concatenate(self._pieces))
