"""From a speech stream to bytes: one resampler and one encoder per request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager

from vivavoce.audio.containers import Encoder, container_rate_hz, make_encoder, wav_file
from vivavoce.audio.resample import Resampler
from vivavoce.types import AudioChunk, AudioFormat, Samples


def delivered_format(encoding: str, requested_hz: int | None, engine_hz: int) -> AudioFormat:
    """What will really be sent: the rate asked for, or the next one the encoding can carry.

    Raises InputError for an unknown encoding or an impossible rate.
    """
    return AudioFormat(encoding, container_rate_hz(encoding, requested_hz or engine_hz))


class Delivery:
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
    """The encoded bytes of a stream, as they are made; never an empty piece."""
    with delivering(source_hz, target) as delivery:
        async for chunk in chunks:
            if data := delivery.push(chunk.samples):
                yield data
        if data := delivery.finish():
            yield data


def encode_whole(samples: Samples, sample_rate_hz: int, encoding: str) -> bytes:
    """A whole sound as a file. Raises InputError for an unknown encoding."""
    target = delivered_format(encoding, None, sample_rate_hz)
    if encoding == "wav":
        return wav_file(samples, sample_rate_hz)
    with delivering(sample_rate_hz, target) as delivery:
        return delivery.push(samples) + delivery.finish()
