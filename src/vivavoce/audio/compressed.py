"""MP3, AAC, Opus and FLAC through PyAV, written as a stream.

Packets leave as the codec makes them. Input until the first bytes, at 24,000 Hz: Opus 20 ms for
its headers and 40 for sound (one page per 20 ms packet, one page behind), FLAC 24 ms, MP3 60 ms,
AAC 90 ms; at 8,000 Hz MP3 takes 160 and AAC 260 ms, because their frames have a fixed number of
samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vivavoce.audio.formats import Encoder
from vivavoce.audio.pcm import finite, to_int16
from vivavoce.types import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How PyAV is asked for one encoding."""

    muxer: str
    codec: str
    muxer_options: Mapping[str, str] = field(default_factory=dict)
    codec_options: Mapping[str, str] = field(default_factory=dict)
    bits_per_sample: float | None = None
    integer: bool = False


_OPUS = _Recipe(
    "ogg", "libopus", {"page_duration": "20000"}, {"frame_duration": "20", "application": "audio"}
)
_RECIPES: Mapping[str, _Recipe] = {
    # A Xing header would have to be corrected at the end, which a stream cannot. Without a bit
    # reservoir frames leave sooner.
    "mp3": _Recipe(
        "mp3",
        "libmp3lame",
        {"write_xing": "0", "id3v2_version": "0"},
        {"reservoir": "0"},
        bits_per_sample=8 / 3,
    ),
    "aac": _Recipe("adts", "aac", bits_per_sample=8 / 3),
    "opus": _OPUS,
    "ogg": _OPUS,
    # Level 2 has frames of 24 ms; the default has 96.
    "flac": _Recipe(
        "flac",
        "flac",
        {"metadata_header_padding": "0"},
        {"compression_level": "2"},
        integer=True,
    ),
}
_OPUS_BITS_PER_S = {8_000: 24_000, 12_000: 32_000}
_OPUS_WIDE_BITS_PER_S = 48_000
_MPEG_BITS_PER_S = (24_000, 128_000)


def _bits_per_s(recipe: _Recipe, sample_rate_hz: int) -> int | None:
    """Generous for mono speech: 64 kbit/s at 24,000 Hz for MP3 and AAC."""
    if recipe.codec == "libopus":
        return _OPUS_BITS_PER_S.get(sample_rate_hz, _OPUS_WIDE_BITS_PER_S)
    if recipe.bits_per_sample is None:
        return None
    low, high = _MPEG_BITS_PER_S
    return round(min(max(recipe.bits_per_sample * sample_rate_hz, low), high) / 8_000) * 8_000


class _Drain:
    """A file that can only be written to, and emptied."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken


class CompressedEncoder(Encoder):
    """Encodes and packs one stream; holds a PyAV container until ``finish`` or ``close``."""

    def __init__(self, encoding: str, sample_rate_hz: int) -> None:
        import av

        recipe = _RECIPES[encoding]
        self._integer = recipe.integer
        self._sample_rate_hz = sample_rate_hz
        self._position = 0
        self._drain = _Drain()
        options = {"flush_packets": "1", **recipe.muxer_options}
        self._container: Any = av.open(
            self._drain, "w", format=recipe.muxer, container_options=options
        )
        stream = self._container.add_stream(
            recipe.codec, rate=sample_rate_hz, layout="mono", options=dict(recipe.codec_options)
        )
        self._stream = cast("Any", stream)
        bits_per_s = _bits_per_s(recipe, sample_rate_hz)
        if bits_per_s is not None:
            self._stream.bit_rate = bits_per_s

    def push(self, samples: Samples) -> bytes:
        """Take float32 (n,); return the packets that are complete. NaN and ±Inf are 0."""
        if len(samples):
            self._mux(self._stream.encode(self._frame(samples)))
            self._position += len(samples)
        return self._drain.take()

    def finish(self) -> bytes:
        """Return the last packets and the container's end."""
        if self._container is None:
            return b""
        self._container.start_encoding()
        if self._position:
            self._mux(self._stream.encode(None))
            self.emitted_samples = self._position
        self.close()
        return self._drain.take()

    def close(self) -> None:
        """Free the codec and the container."""
        if self._container is not None:
            self._container.close()
            self._container = self._stream = None

    def _mux(self, packets: Any) -> None:
        self._container.mux(packets)
        if packets:
            # A packet's time counts from the first sample that was pushed; before it is delay.
            last = packets[-1]
            ended_s = float((last.pts + last.duration) * last.time_base)
            settled = min(round(ended_s * self._sample_rate_hz), self._position)
            self.emitted_samples = max(self.emitted_samples, settled)

    def _frame(self, samples: Samples) -> Any:
        import av

        layout = "s16" if self._integer else "flt"
        values: NDArray[Any] = to_int16(samples) if self._integer else _within_range(samples)
        frame = av.AudioFrame.from_ndarray(values[None], format=layout, layout="mono")
        frame.sample_rate = self._sample_rate_hz
        frame.time_base = Fraction(1, self._sample_rate_hz)
        frame.pts = self._position
        return frame


def _within_range(samples: Samples) -> Samples:
    return np.clip(finite(samples), -1.0, 1.0).astype(np.float32, copy=False)
