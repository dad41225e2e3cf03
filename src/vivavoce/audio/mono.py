"""Decoded frames of any layout and rate as one mono stream.

A file may change its channels, format and rate from frame to frame, and say nothing of it in its
header; so each frame is looked at before its samples are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vivavoce.audio.pcm import concatenate, empty
from vivavoce.audio.resample import Resampler
from vivavoce.errors import InvalidAudio

if TYPE_CHECKING:
    from vivavoce.types import Samples

MAX_CHANNELS = 8
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000

# Resampling frame by frame would cost more than decoding.
_BLOCK_S = 0.5


def check_form(rate_hz: int, channels: int) -> None:
    """Raise InvalidAudio for a rate or a number of channels that no usual recording has."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidAudio(
            f"The recording's sample rate is {rate_hz} Hz; "
            f"{MIN_RATE_HZ} to {MAX_RATE_HZ} are accepted."
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidAudio(
            f"The recording has {channels} channels; 1 to {MAX_CHANNELS} are accepted."
        )


class MonoStream:
    """Averages the channels of PyAV's audio frames and brings them to one rate.

    That rate is the first frame's, at most ``max_rate_hz``. ``push`` raises InvalidAudio where the
    sound gets longer than ``max_duration_s``, so that no more than that is ever held.
    """

    def __init__(self, max_duration_s: float, max_rate_hz: int) -> None:
        self.rate_hz = 0
        self._max_duration_s = max_duration_s
        self._max_rate_hz = max_rate_hz
        self._left = 0
        self._packed = _Packed()
        self._source_hz = 0
        self._resampler: Resampler | None = None
        self._block: list[Samples] = []
        self._in_block = 0
        self._pieces: list[Samples] = []

    def push(self, frame: Any) -> None:
        """Take one ``av.AudioFrame``."""
        check_form(frame.sample_rate, frame.layout.nb_channels)
        if frame.sample_rate != self._source_hz:
            self._change_rate(frame.sample_rate)
        mixed = self._packed.mono(frame)
        self._block.append(mixed)
        self._in_block += len(mixed)
        if self._in_block >= _BLOCK_S * self._source_hz:
            self._convert_block()

    def finish(self) -> Samples:
        """All of it, float32 (n,) at ``rate_hz``; n is 0 where no frame came."""
        self._end_resampler()
        return concatenate(self._pieces)

    def _change_rate(self, source_hz: int) -> None:
        self._end_resampler()
        if not self.rate_hz:
            self.rate_hz = min(source_hz, self._max_rate_hz)
            self._left = int(self._max_duration_s * self.rate_hz)
        self._source_hz = source_hz
        self._resampler = Resampler(source_hz, self.rate_hz)

    def _convert_block(self) -> None:
        if self._resampler is not None:
            self._keep(self._resampler.push(concatenate(self._block)))
        self._block, self._in_block = [], 0

    def _end_resampler(self) -> None:
        self._convert_block()
        if self._resampler is not None:
            self._keep(self._resampler.finish())

    def _keep(self, piece: Samples) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise InvalidAudio(f"The recording is longer than {self._max_duration_s:g} s.")
        self._pieces.append(piece)


class _Packed:
    """Frames as interleaved float32.

    Only a packed frame's samples can be read safely: PyAV counts the planes of a planar one until
    it finds an empty pointer, and with eight channels or more there is none to find. FFmpeg
    packs them; its own mix to mono is not used, as it adds channels up.
    """

    def __init__(self) -> None:
        self._form: tuple[str, str, int] | None = None
        self._converter: Any = None

    def mono(self, frame: Any) -> Samples:
        """The average of a frame's channels, float32 (n,)."""
        import av

        channels = frame.layout.nb_channels
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            # It keeps no samples back, so nothing is lost with the old one.
            self._form, self._converter = form, av.AudioResampler(format="flt")
        pieces = [
            packed.to_ndarray().reshape(-1, channels).mean(axis=1, dtype=np.float32)
            for packed in self._converter.resample(frame)
        ]
        return concatenate(pieces) if pieces else empty()
