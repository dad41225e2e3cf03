"""Texts that wait on WebSockets: what all of them take together is bounded, and shared.

A few texts of usual length may always wait on a socket. Beyond that a socket may hold as much as is
free, so that one alone gets half of what there is for all.
"""

from __future__ import annotations

import sys
from itertools import chain

from vivavoce.errors import Busy
from vivavoce.types import SpeechRequest

MAX_WAITING_BYTES = 32 * 1024 * 1024
OWN_BYTES = 32 * 1024
RETRY_MS = 1_000

_TEXT_BYTES = 2_048
_ENTRY_BYTES = 128
"""What objects and dictionaries take beside the strings in them."""


class WaitingTexts:
    """What is free for all. Use it from one event loop."""

    def __init__(self, most_bytes: int = MAX_WAITING_BYTES) -> None:
        self.free_bytes = most_bytes


class Share:
    """What one socket holds: ``OWN_BYTES`` that nobody else can take, and then of what is free."""

    def __init__(self, room: WaitingTexts) -> None:
        self._room = room
        self._held_bytes = 0

    @property
    def _borrowed_bytes(self) -> int:
        return max(0, self._held_bytes - OWN_BYTES)

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises Busy."""
        wanted = max(0, self._held_bytes + size - OWN_BYTES)
        if wanted and wanted > self._room.free_bytes:
            raise Busy("Too much text waits on this server's sockets.", retry_after_ms=RETRY_MS)
        self._change(size)

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self._change(-size)

    def give_all_back(self) -> None:
        """Hold nothing."""
        self._change(-self._held_bytes)

    def _change(self, by: int) -> None:
        before = self._borrowed_bytes
        self._held_bytes += by
        self._room.free_bytes -= self._borrowed_bytes - before


def size_of(request: SpeechRequest) -> int:
    """About how many bytes a request takes while it waits."""
    entries = list(chain(request.lexicon.items(), request.options.items()))
    texts = (request.text, request.voice, request.instructions)
    strings = chain(texts, *entries)
    return _TEXT_BYTES + len(entries) * _ENTRY_BYTES + sum(map(sys.getsizeof, strings))
