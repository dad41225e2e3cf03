"""From a speech stream to bytes: one resampler and one encoder per request.

Codecs run beside the event loop. Plain samples stay on it, pieces that are short as an engine makes
them: resampling 80 ms takes 0.1 ms, less than the way to a thread and back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial

from vivavoce.audio.containers import (
    Encoder,
    container_rate_hz,
    find_encoding,
    make_encoder,
    wav_file,
)
from vivavoce.audio.resample import Resampler
from vivavoce.speech.encoding import ThreadedEncoder, threads_for
from vivavoce.speech.stream import SpeechStream
from vivavoce.types import AudioChunk, AudioFormat, Samples

PIECE_S = 0.25
"""Sound that is encoded at a time: a thread is nobody's for longer, and no piece of a body larger
than 64 kB. Longer chunks (a clause in one) are cut."""


def delivered_format(encoding: str, requested_hz: int | None, engine_hz: int) -> AudioFormat:
    """What will really be sent: the rate asked for, or the next one the encoding can carry.

    Raises InputError for an unknown encoding or an impossible rate.
    """
    return AudioFormat(encoding, container_rate_hz(encoding, requested_hz or engine_hz))


class Delivery(Encoder):
    """Resamples and encodes one stream's chunks."""

    def __init__(self, source_hz: int, target: AudioFormat) -> None:
        self.target = target
        self._resampler = Resampler(source_hz, target.sample_rate_hz)
        self._encoder: Encoder = make_encoder(target.encoding, target.sample_rate_hz)

    def push(self, samples: Samples) -> bytes:
        """Bytes that can leave now; may be empty."""
        return self._encoder.push(self._resampler.push(samples))

    def finish(self) -> bytes:
        """The rest."""
        return self._encoder.push(self._resampler.finish()) + self._encoder.finish()

    def close(self) -> None:
        """Give up an unfinished encoding. Idempotent."""
        self._encoder.close()


@contextmanager
def delivering(source_hz: int, target: AudioFormat) -> Iterator[Delivery]:
    """A Delivery that is closed whatever happens."""
    delivery = Delivery(source_hz, target)
    try:
        yield delivery
    finally:
        delivery.close()


async def encoded(
    chunks: AsyncIterator[AudioChunk], source_hz: int, target: AudioFormat
) -> AsyncGenerator[bytes, None]:
    """The encoded bytes of a stream, as they are made; never an empty piece.

    Whoever closes it, or is cancelled in it, waits for no codec. Raises InputError for an encoding
    or rate that cannot be, and what the stream raises.
    """
    stream = chunks if isinstance(chunks, SpeechStream) else None
    remembered = stream is not None and stream.timings.cached
    plain = not remembered and not find_encoding(target.encoding).compressed
    encoder = ThreadedEncoder(
        partial(Delivery, source_hz, target), threads_for(remembered=remembered)
    )
    size = round(PIECE_S * source_hz)
    try:
        async for chunk in chunks:
            here = plain and len(chunk.samples) <= size
            for samples in _cut(chunk.samples, size):
                data = encoder.push_here(samples) if here else await encoder.push(samples)
                if data:
                    yield data
                if stream is not None:
                    stream.taken()
        if data := encoder.finish_here() if plain else await encoder.finish():
            yield data
    finally:
        encoder.close()


def _cut(samples: Samples, size: int) -> Iterator[Samples]:
    """In pieces of at most ``size``, without copying."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def encode_whole(samples: Samples, sample_rate_hz: int, encoding: str) -> bytes:
    """A whole sound as a file. Raises InputError for an unknown encoding."""
    target = delivered_format(encoding, None, sample_rate_hz)
    if encoding == "wav":
        return wav_file(samples, sample_rate_hz)
    with delivering(sample_rate_hz, target) as delivery:
        return delivery.push(samples) + delivery.finish()
