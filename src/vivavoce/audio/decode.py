"""Recordings that users send, decoded under guard.

The bytes come from anyone: only formats that hold sound in themselves are opened (no playlists,
no lists of other files, no devices) and only the usual decoders, nothing is read but the given
bytes, and decoding stops at a duration limit, so that a small file cannot become a large array.
A server decodes in a process of its own all the same (``runtime/decoding.py``).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vivavoce.audio.mono import MonoStream, check_form
from vivavoce.errors import InvalidAudio
from vivavoce.types import Samples

if TYPE_CHECKING:
    from vivavoce.types import Samples

MAX_DURATION_S = 60.0
MAX_BYTES = 32 * 1024 * 1024
MAX_RATE_HZ = 48_000
"""Recordings at a higher rate are brought down to this one while they are decoded."""

# FFmpeg's names of demuxers. "mov" covers mp4, m4a and 3gp.
_FORMATS = "aac,ac3,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp3,ogg,w64,wav,wv"
# FFmpeg's names of decoders: what phones, browsers and recorders write. The hundreds of others, all
# those of pictures among them, are so much C that no upload needs to reach.
_DECODERS = frozenset(
    {
        "aac", "ac3", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "alac", "amrnb", "amrwb",
        "eac3", "flac", "g726", "gsm", "gsm_ms", "libopencore_amrnb", "libopencore_amrwb",
        "libopus", "libvorbis", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus",
        "pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_mulaw", "pcm_s16be",
        "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8",
        "speex", "vorbis", "wavpack", "wmapro", "wmav1", "wmav2",
    }
)  # fmt: skip
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
    data = read_recording_file(path, param=param)
    return decode_audio(data, max_duration_s=max_duration_s, param=param)


def read_recording_file(path: str | Path, *, param: str | None = None) -> bytes:
    """A file's bytes, no more than ``MAX_BYTES`` + 1. Raises InvalidAudio if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidAudio(f"Cannot read {path}: {reason}.", param=param) from error


def decode_audio(
    data: bytes,
    *,
    max_duration_s: float = MAX_DURATION_S,
    max_bytes: int = MAX_BYTES,
    param: str | None = None,
) -> tuple[Samples, int]:
    """A recording as mono float32 (n,) in [-1, 1] and its rate in Hz: its own, at most 48,000.

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

    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(sorted(_DECODERS)),
    }
    file = io.BytesIO(data)
    try:
        with av.open(file, "r", container_options=options, metadata_errors="ignore") as container:
            stream = _only_sound(container)
            sound = MonoStream(max_duration_s, MAX_RATE_HZ)
            for frame in container.decode(stream):
                sound.push(frame)
            samples = sound.finish()
            _refuse_truncated(container, stream, len(samples) / (sound.rate_hz or 1))
            return samples, sound.rate_hz
    except (av.error.FFmpegError, ArithmeticError, LookupError, ValueError) as error:
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
    if context.name not in _DECODERS:
        raise InvalidAudio(f"Recordings in the codec {context.name!r} are not read.")
    check_form(context.sample_rate, context.channels)
    context.thread_count = 1
    return stream


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
    if stream.duration is None or stream.time_base is None or not names & _LENGTH_IN_HEADER:
        return
    stated_s = float(stream.duration * stream.time_base)
    if decoded_s < stated_s * _SHORTEST_SHARE:
        raise InvalidAudio(
            f"The recording is cut off: it should last {stated_s:.2f} s, only {decoded_s:.2f} s "
            "are there."
        )


MIN_PEAK = 1e-3
"""The loudest sample that is needed: -60 dB of full scale, 32 steps of a 16-bit recording."""

MIN_SOUND_S = 0.25
"""Less sound than this is a syllable; nobody can be recognized by it."""

_FRAME_S = 0.01
_AUDIBLE = 5e-4
_SILENCE = 3e-5  # less than one step of 16 bits


def check_voice_recording(samples: Samples, sample_rate_hz: int, param: str | None = None) -> None:
    """Raise InvalidAudio, with ``param``, for mono sound (n,) that no voice can be made of.

    That is silence, sound below audibility, or less than ``MIN_SOUND_S`` of sound between silence.
    What is only quiet passes. A constant offset counts as silence.
    """
    if samples.ndim != 1 or not len(samples) or not np.issubdtype(samples.dtype, np.floating):
        raise InvalidAudio("The recording is not mono sound in floats.", param=param)
    if not np.isfinite(samples).all():
        raise InvalidAudio("The recording holds samples that are not numbers.", param=param)
    sound = np.abs(samples - np.float32(samples.mean(dtype=np.float64)))
    peak = float(sound.max())
    if peak < _SILENCE:
        raise InvalidAudio("The recording is silent.", param=param)
    if peak < MIN_PEAK:
        raise InvalidAudio(
            f"The recording is too quiet to be heard: its peak is at {20 * np.log10(peak):.0f} dB"
            f" of full scale; at least {20 * np.log10(MIN_PEAK):.0f} dB is needed.",
            param=param,
        )
    sound_s = _sound_s(sound, sample_rate_hz)
    if sound_s < MIN_SOUND_S:
        raise InvalidAudio(
            f"The recording holds {sound_s:.2f} s of sound; at least {MIN_SOUND_S:g} s is needed.",
            param=param,
        )


def _sound_s(sound: Samples, sample_rate_hz: int) -> float:
    """How long it is audible, in frames of 10 ms."""
    frame = max(round(_FRAME_S * sample_rate_hz), 1)
    starts = np.arange(0, len(sound), frame)
    loud = np.maximum.reduceat(sound, starts) >= _AUDIBLE
    lengths = np.diff(np.append(starts, len(sound)))
    return float(lengths[loud].sum()) / sample_rate_hz
