"""Recordings that users send, decoded under guard.

The bytes come from anyone: only formats that hold sound in themselves are opened (no playlists,
no lists of other files, no devices), nothing is read but the given bytes, and decoding stops at a
duration limit, so that a small file cannot become a large array.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vivavoce.audio.pcm import concatenate
from vivavoce.errors import InvalidAudio
from vivavoce.types import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DURATION_S = 60.0
MAX_BYTES = 32 * 1024 * 1024

_MIN_RATE_HZ = 4_000
_MAX_RATE_HZ = 192_000
_MAX_CHANNELS = 8

# FFmpeg's names of demuxers. "mov" covers mp4, m4a and 3gp.
_FORMATS = "aac,ac3,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp3,ogg,w64,wav,wv"
# Formats whose header states the length; elsewhere a duration is a guess.
_LENGTH_IN_HEADER = frozenset({"aiff", "caf", "flac", "mov", "w64", "wav"})
_RIFF_HEADER_BYTES = 12
# Sizes from here on mean that the writer did not know.
_STREAMED_RIFF_BYTES = 0x7FFFFF00
# How much shorter than its header says a recording may be.
_SHORTEST_SHARE = 0.95


def read_audio_file(
    path: str | Path, *, max_duration_s: float = MAX_DURATION_S, param: str | None = None
) -> tuple[Samples, int]:
    """A recording on disk, as ``decode_audio``. Raises InvalidAudio, also if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidAudio(f"Cannot read {path}: {reason}.", param=param) from error
    return decode_audio(data, max_duration_s=max_duration_s, param=param)


def decode_audio(
    data: bytes,
    *,
    max_duration_s: float = MAX_DURATION_S,
    max_bytes: int = MAX_BYTES,
    param: str | None = None,
) -> tuple[Samples, int]:
    """A recording as mono float32 (n,) in [-1, 1] and its own sample rate in Hz.

    Reads the usual sound files (WAV, FLAC, MP3, Ogg, M4A, WebM, AIFF, …); channels are averaged.
    Raises InvalidAudio, with ``param``, for anything that is not a whole, finite recording within
    the limits.
    """
    if not data:
        raise InvalidAudio("The recording is empty (0 bytes).", param=param)
    if len(data) > max_bytes:
        raise InvalidAudio(
            f"The recording has {len(data)} bytes; at most {max_bytes} are accepted.", param=param
        )
    try:
        _refuse_short_riff(data)
        samples, sample_rate_hz = _decode(data, max_duration_s)
    except InvalidAudio as error:
        raise InvalidAudio(error.message, param=param) from error
    if not len(samples):
        raise InvalidAudio("The recording holds no sound.", param=param)
    if not np.isfinite(samples).all():
        raise InvalidAudio("The recording holds samples that are not numbers.", param=param)
    return np.clip(samples, -1.0, 1.0), sample_rate_hz


def _decode(data: bytes, max_duration_s: float) -> tuple[Samples, int]:
    import av
    import av.error

    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    try:
        with av.open(io.BytesIO(data), "r", container_options=options) as container:
            stream = _only_sound(container)
            samples = concatenate(list(_pieces(container, stream, max_duration_s)))
            sample_rate_hz = int(stream.codec_context.sample_rate)
            _refuse_truncated(container, stream, len(samples) / sample_rate_hz)
            return samples, sample_rate_hz
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidAudio(f"The recording cannot be decoded: {reason}.") from error


def _only_sound(container: Any) -> Any:
    """The first audio stream, checked before anything of it is decoded."""
    if not container.streams.audio:
        raise InvalidAudio("The file holds no sound.")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise InvalidAudio("The recording's codec is not known.")
    if not _MIN_RATE_HZ <= context.sample_rate <= _MAX_RATE_HZ:
        raise InvalidAudio(
            f"The recording's sample rate is {context.sample_rate} Hz; "
            f"{_MIN_RATE_HZ} to {_MAX_RATE_HZ} are accepted."
        )
    if not 1 <= context.channels <= _MAX_CHANNELS:
        raise InvalidAudio(
            f"The recording has {context.channels} channels; 1 to {_MAX_CHANNELS} are accepted."
        )
    return stream


def _pieces(container: Any, stream: Any, max_duration_s: float) -> Iterator[Samples]:
    """Mono pieces, float32 (n,); stops with InvalidAudio where the recording gets too long."""
    import av

    rate_hz = stream.codec_context.sample_rate
    # Only the sample format is converted here: FFmpeg's own mix to mono adds channels up.
    to_float = av.AudioResampler(format="fltp")
    left = int(max_duration_s * rate_hz)
    for frame in _frames_and_end(container, stream):
        for planes in to_float.resample(frame):
            left -= planes.samples
            if left < 0:
                raise InvalidAudio(f"The recording is longer than {max_duration_s:g} s.")
            yield planes.to_ndarray().mean(axis=0, dtype=np.float32)


def _frames_and_end(container: Any, stream: Any) -> Iterator[Any]:
    """The decoded frames, then None, which flushes the conversion."""
    yield from container.decode(stream)
    yield None


def _refuse_short_riff(data: bytes) -> None:
    """FFmpeg shortens a WAV's stated length to what is there; so it is compared before."""
    if data[:4] != b"RIFF" or len(data) < _RIFF_HEADER_BYTES:
        return
    stated_bytes = int.from_bytes(data[4:8], "little")
    if stated_bytes < _STREAMED_RIFF_BYTES and len(data) < stated_bytes * _SHORTEST_SHARE:
        raise InvalidAudio(
            f"The recording is cut off: it should have {stated_bytes + 8} bytes, only {len(data)} "
            "are there."
        )


def _refuse_truncated(container: Any, stream: Any, decoded_s: float) -> None:
    names = set(container.format.name.split(","))
    if stream.duration is None or not names & _LENGTH_IN_HEADER:
        return
    stated_s = float(stream.duration * stream.time_base)
    if decoded_s < stated_s * _SHORTEST_SHARE:
        raise InvalidAudio(
            f"The recording is cut off: it should last {stated_s:.2f} s, only {decoded_s:.2f} s "
            "are there."
        )
