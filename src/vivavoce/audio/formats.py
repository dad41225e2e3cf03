"""What sound can be written as: names, MIME types, sample rates, and what every encoder can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vivavoce.errors import InputError, shown
from vivavoce.types import Samples

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 48_000

_OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
_MPEG_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way to write sound.

    ``rates_hz`` are the rates its codec can carry, in rising order; empty means any.
    ``native_hz`` is what it is mostly used at, where there is such a rate. With ``streams``,
    bytes leave as sound comes in. ``compressed``: a codec works for it.
    """

    name: str
    mime_type: str
    extension: str
    rates_hz: tuple[int, ...] = ()
    native_hz: int | None = None
    streams: bool = True
    compressed: bool = False


_ALL = (
    Encoding("mp3", "audio/mpeg", "mp3", _MPEG_RATES_HZ, compressed=True),
    # Both are Opus in Ogg: that is what callers of either name play, and Vorbis adds nothing.
    Encoding("opus", "audio/ogg", "opus", _OPUS_RATES_HZ, 48_000, compressed=True),
    Encoding("ogg", "audio/ogg", "ogg", _OPUS_RATES_HZ, 48_000, compressed=True),
    Encoding("aac", "audio/aac", "aac", _MPEG_RATES_HZ, compressed=True),
    Encoding("flac", "audio/flac", "flac", compressed=True),
    Encoding("wav", "audio/wav", "wav"),
    Encoding("pcm", "audio/pcm", "pcm"),
    # RFC 3551 names; audio/basic would promise 8,000 Hz.
    Encoding("ulaw", "audio/PCMU", "ulaw", native_hz=8_000),
    Encoding("alaw", "audio/PCMA", "alaw", native_hz=8_000),
)

ENCODINGS: Mapping[str, Encoding] = MappingProxyType({each.name: each for each in _ALL})
"""Every encoding by its name; all of them stream."""


def find_encoding(name: str) -> Encoding:
    """The encoding of that name. Raises InputError (``response_format``) for an unknown one."""
    try:
        return ENCODINGS[name]
    except KeyError:
        known = ", ".join(ENCODINGS)
        raise InputError(
            f"Unknown audio format {shown(name)}. Known formats: {known}.", param="response_format"
        ) from None


def container_rate_hz(encoding: str, requested_hz: int) -> int:
    """The lowest rate the encoding can carry that is not under the requested one.

    The caller resamples to it and announces it. Raises InputError for an unknown encoding
    (``response_format``) and for a rate outside 8,000 to 48,000 Hz (``sample_rate``).
    """
    entry = find_encoding(encoding)
    if not MIN_RATE_HZ <= requested_hz <= MAX_RATE_HZ:
        raise InputError(
            f"The sample rate must be between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz, "
            f"not {requested_hz}.",
            param="sample_rate",
        )
    if not entry.rates_hz:
        return requested_hz
    return next(rate for rate in entry.rates_hz if rate >= requested_hz)


class Encoder(ABC):
    """Writes one stream of sound as bytes; spent after ``finish`` or ``close``.

    ``emitted_samples`` is how much of the sound that was pushed is in the bytes given so far; of a
    codec, what it has made packets of, which its container may hold back for a page (20 ms).
    """

    emitted_samples: int = 0

    @abstractmethod
    def push(self, samples: Samples) -> bytes:
        """Take float32 (n,); return the bytes that are ready, maybe none."""

    def finish(self) -> bytes:
        """Return the remaining bytes and give everything back."""
        return b""

    def close(self) -> None:  # noqa: B027 - most encoders hold nothing
        """Give everything back without finishing, for abandoned streams. Harmless after finish."""
