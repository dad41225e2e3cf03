"""What one stream holds stays within docs/operations.md, however it is read and whatever it asks.

Everything is measured that Python or numpy has allocated for it, at its worst.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from vivavoce.audio.encode import delivered_format
from vivavoce.speech.encoding import encoded, start_threads
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.types import SpeechRequest

BOUND_BYTES = 32 * 1024 * 1024
ENGINE_HZ = 48_000
TEXT = "A sentence that is as long as a clause may be and goes on, " * 5 + "and then ends. "
SLOWEST = 0.25
SLOW = pytest.mark.slow


@asynccontextmanager
async def serving(**fake: Any) -> AsyncIterator[SpeechService]:
    engine = FakeEngine(FakeOptions(sample_rate_hz=ENGINE_HZ, chunk_ms=500.0, **fake))
    service = SpeechService(engine, ServiceOptions(cache_bytes=1 << 30))
    await service.start()
    try:
        yield service
    finally:
        await service.close()


async def still(service: SpeechService) -> None:
    """Wait until the engine makes nothing more for anybody who does not read."""
    quiet, steps = 0, -1
    async with asyncio.timeout(60):
        while quiet < 5:
            await asyncio.sleep(0.02)
            now = service.engine.steps  # type: ignore[attr-defined]
            quiet = quiet + 1 if now == steps else 0
            steps = now


async def peak_bytes(
    service: SpeechService, request: SpeechRequest, encoding: str, reader: str
) -> int:
    """The most that was held while a caller read like this."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        async with service.open(request) as stream:
            target = delivered_format(encoding, 48_000, stream.sample_rate_hz)
            pieces = encoded(stream, stream.sample_rate_hz, target)
            async with aclosing(pieces):
                await _read(service, pieces, reader)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


async def _read(service: SpeechService, pieces: AsyncIterator[bytes], reader: str) -> None:
    await anext(pieces)
    await still(service)
    if reader == "nothing":
        return
    count = 0
    async for _ in pieces:
        count += 1
        if count % 40 == 0:
            await still(service)
        if reader == "some" and count >= 400:
            return


@pytest.mark.parametrize("mode", ["token", "sentence"])
@pytest.mark.parametrize("reader", ["nothing", "some", pytest.param("all", marks=SLOW)])
@pytest.mark.parametrize("native", [True, False], ids=["native speed", "stretched"])
async def test_a_stream_holds_no_more_than_is_said(native: bool, mode: Any, reader: str) -> None:
    start_threads()
    async with serving(speed=native) as service:
        request = SpeechRequest(TEXT * 3, speed=SLOWEST, stream_mode=mode)
        held = await peak_bytes(service, request, "mp3", reader)
        assert 1_000_000 < held <= BOUND_BYTES, f"{held / 2**20:.1f} MiB"


@pytest.mark.parametrize("encoding", ["pcm", "opus", "flac"])
async def test_whatever_the_format(encoding: str) -> None:
    start_threads()
    async with serving() as service:
        request = SpeechRequest(TEXT * 2, speed=SLOWEST, stream_mode="sentence")
        held = await peak_bytes(service, request, encoding, "some")
        assert held <= BOUND_BYTES, f"{held / 2**20:.1f} MiB"


async def test_remembered_speech_holds_no_copy_of_its_own() -> None:
    start_threads()
    async with serving() as service:
        request = SpeechRequest("A short one, to be remembered. " * 10, stream_mode="sentence")
        async with service.open(request) as stream:
            async for _ in stream:
                pass
        assert service.cache.stats.entries == 1
        held = await peak_bytes(service, request, "mp3", "all")
        assert held < 4 * 1024 * 1024, f"{held / 2**20:.1f} MiB"


async def test_the_next_clause_is_not_begun_while_this_one_has_a_lead() -> None:
    async with serving() as service:
        request = SpeechRequest(TEXT * 4, speed=SLOWEST)
        async with service.open(request) as stream:
            await anext(stream)
            await still(service)
            assert 2_200_000 < service.lifecycle.loop.buffered_bytes < 3_000_000, "the first clause"
            async for _ in stream:
                if service.lifecycle.loop.buffered_bytes < 2_000_000:
                    break
            await still(service)
            assert service.lifecycle.loop.buffered_bytes > 5_000_000, "and the next"
