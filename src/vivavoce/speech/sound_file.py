"""Speech into an open file, encoded as it is made; a WAV gets its true sizes where it can."""

from __future__ import annotations

from typing import IO

from vivavoce.audio.containers import Encoder, wav_header
from vivavoce.speech.delivery import Delivery
from vivavoce.types import AudioFormat, Samples

WAV_HEADER_BYTES = 44


class SoundFile(Encoder):
    """Writes one stream's chunks; what it returns is always empty. The file stays open."""

    def __init__(self, file: IO[bytes], source_hz: int, target: AudioFormat) -> None:
        self._file = file
        self._target = target
        self._delivery = Delivery(source_hz, target)
        self._written_bytes = 0

    def push(self, samples: Samples) -> bytes:
        """Write what the encoder gives; flushed, so that a reader hears it at once."""
        return self._write(self._delivery.push(samples))

    def finish(self) -> bytes:
        """Write the rest, and a WAV's sizes where the file can be rewound."""
        self._write(self._delivery.finish())
        if self._target.encoding == "wav" and self._file.seekable():
            self._file.seek(0)
            data_bytes = self._written_bytes - WAV_HEADER_BYTES
            self._file.write(wav_header(self._target.sample_rate_hz, data_bytes))
            self._file.flush()
        return b""

    def close(self) -> None:
        """Give up what is unfinished. Idempotent."""
        self._delivery.close()

    def _write(self, data: bytes) -> bytes:
        if data:
            self._file.write(data)
            self._file.flush()
            self._written_bytes += len(data)
        return b""
