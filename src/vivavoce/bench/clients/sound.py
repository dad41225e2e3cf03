"""The body of an answer as sound: bare PCM, or a WAV recognized by how it begins."""

from __future__ import annotations

from vivavoce.bench.heard import Recorder
from vivavoce.bench.wav import WavReader

_MAGIC = b"RIFF"


class BodyReader:
    """Feeds a recorder with a body of mono s16le; ``sample_rate_hz`` is that of bare PCM.

    The Content-Type is not asked: servers that send a WAV as ``text/html`` exist.
    """

    def __init__(self, recorder: Recorder, sample_rate_hz: int) -> None:
        self._recorder = recorder
        self._sample_rate_hz = sample_rate_hz
        self._head: bytes | None = b""
        self._wav: WavReader | None = None

    def feed(self, at_s: float, data: bytes) -> bool:
        """Take what arrived; whether there was sound in it. Raises InvalidAudio."""
        self._recorder.first_byte(at_s)
        if self._head is not None:
            data = self._head + data
            if len(data) < len(_MAGIC):
                self._head = data
                return False
            self._begin(data)
        sound = self._unwrap(data) if self._wav else data
        if sound:
            self._recorder.pcm(at_s, sound)
        return bool(sound)

    def _begin(self, data: bytes) -> None:
        self._head = None
        if data.startswith(_MAGIC):
            self._wav = WavReader()
        else:
            self._recorder.format(self._sample_rate_hz)

    def _unwrap(self, data: bytes) -> bytes:
        assert self._wav is not None
        known = self._wav.format is not None
        sound = self._wav.feed(data)
        if self._wav.format and not known:
            self._recorder.format(self._wav.format.sample_rate_hz)
        return sound
