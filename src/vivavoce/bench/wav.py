"""Reading a WAV stream while it arrives: where its header ends and what it announces."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vivavoce.errors import InvalidAudio

_CHUNK_HEAD_BYTES = 8
_RIFF_HEAD_BYTES = 12


@dataclass(frozen=True, slots=True)
class WavFormat:
    """What a ``fmt`` chunk says (RIFF WAVE, Microsoft 1991)."""

    channels: int
    sample_rate_hz: int
    bits: int


class WavReader:
    """Takes the bytes of a WAV in any portions and gives the sound after the header back.

    The length in the ``data`` chunk is not used: a server that streams cannot know it.
    """

    def __init__(self) -> None:
        self.format: WavFormat | None = None
        self._head = bytearray()
        self._in_data = False

    def feed(self, data: bytes) -> bytes:
        """Sound among ``data``; empty while the header lasts. Raises InvalidAudio."""
        if self._in_data:
            return data
        self._head += data
        return self._parse()

    def _parse(self) -> bytes:
        head = self._head
        if len(head) < _RIFF_HEAD_BYTES:
            return b""
        if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
            raise InvalidAudio("The stream does not start as a WAV.")
        at = _RIFF_HEAD_BYTES
        while len(head) >= at + _CHUNK_HEAD_BYTES:
            name, size = struct.unpack_from("<4sI", head, at)
            at += _CHUNK_HEAD_BYTES
            if name == b"data":
                return self._start_data(at)
            if name == b"fmt " and len(head) >= at + 16:
                _, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", head, at)
                self.format = WavFormat(channels, rate_hz, bits)
            at += size + size % 2
        return b""

    def _start_data(self, at: int) -> bytes:
        if self.format is None:
            raise InvalidAudio("The WAV has no format before its data.")
        self._in_data = True
        rest = bytes(self._head[at:])
        self._head.clear()
        return rest
