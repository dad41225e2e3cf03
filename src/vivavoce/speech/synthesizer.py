"""The Python API: an engine that speaks, synchronously or not.

``Synthesizer`` runs a speech service in an event loop on a thread of its own, so that plain code
needs no ``async``; ``astream`` and ``asynthesize`` serve coroutines from any event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, Unpack, cast

import numpy as np

from vivavoce.engines.base import EngineInfo
from vivavoce.engines.registry import DEFAULT_ENGINE, create_engine, device_options
from vivavoce.errors import InputError
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.speech.stream import SpeechStream
from vivavoce.types import (
    AudioChunk,
    Priority,
    ReferenceAudio,
    Samples,
    Sampling,
    SpeechRequest,
    Timings,
    Voice,
)

T = TypeVar("T")

SAMPLING_FIELDS = ("temperature", "top_p", "seed")


class SpeechParameters(TypedDict, total=False):
    """How to speak: the keyword arguments of ``synthesize`` and its kin, all of them optional.

    ``speed`` is 0.25 to 4, 1 is the voice's own. ``language`` is ISO 639-1; without it, the
    voice's. ``instructions`` say how to speak, where the model can. ``seed``, ``temperature`` and
    ``top_p`` are how an engine draws that draws. ``clone_from`` is a recording to speak like,
    instead of ``voice``. The others are fields of ``SpeechRequest``.
    """

    voice: str | None
    language: str | None
    speed: float
    instructions: str | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    normalize: bool
    ssml: bool
    lexicon: Mapping[str, str]
    stream_mode: Literal["token", "sentence"]
    priority: Priority
    clone_from: ReferenceAudio | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Speech:
    """A whole utterance: mono float32 samples in [-1, 1] and their rate."""

    samples: Samples
    sample_rate_hz: int
    timings: Timings

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def save(self, path: str | Path, encoding: str | None = None) -> Path:
        """Write a sound file; the format follows the file's ending. Raises InputError."""
        from vivavoce.audio.encode import encode_whole

        target = Path(path)
        name = encoding or target.suffix.lstrip(".").lower()
        target.write_bytes(encode_whole(self.samples, self.sample_rate_hz, name))
        return target


class SpeechIterator:
    """Chunks of one request as they are made. Closing it (or leaving ``with``) cancels."""

    def __init__(self, synthesizer: Synthesizer, request: SpeechRequest) -> None:
        self._synthesizer = synthesizer
        self._context: AbstractAsyncContextManager[SpeechStream] | None = synthesizer.service.open(
            request
        )
        self._stream = synthesizer.run(self._context.__aenter__())
        self.timings = self._stream.timings
        self.sample_rate_hz = self._stream.sample_rate_hz
        self.ignored = self._stream.ignored

    def __iter__(self) -> Iterator[AudioChunk]:
        return self

    def __next__(self) -> AudioChunk:
        if self._context is None:
            raise StopIteration
        try:
            chunk = self._synthesizer.run(_next_or_none(self._stream))
        except BaseException:
            self.close()
            raise
        if chunk is None:
            self.close()
            raise StopIteration
        return chunk

    def __enter__(self) -> SpeechIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop; the engine's slot is free before its next step. Idempotent."""
        context, self._context = self._context, None
        if context is not None:
            self._synthesizer.run(context.__aexit__(None, None, None))


class Synthesizer:
    """A loaded engine. Use it as a context manager, or call ``close``.

    It may be used from several threads at once. Keyword arguments of ``synthesize`` and its kin are
    those of ``SpeechParameters``: voice, language, speed, seed, …
    """

    def __init__(self, service: SpeechService) -> None:
        self.service = service
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="vivavoce-python", daemon=True
        )
        self._thread.start()
        try:
            self.run(service.start())
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """The engine: name, model, rate, device, capabilities."""
        return self.service.engine.info

    @property
    def sample_rate_hz(self) -> int:
        """The engine's own rate."""
        return self.info.sample_rate_hz

    def voices(self) -> Sequence[Voice]:
        """Built-in and saved voices."""
        return [*self.service.voices.builtin(), *self.service.voices.saved()]

    def synthesize(self, text: str, **how: Unpack[SpeechParameters]) -> Speech:
        """Speak a text whole. Raises VivavoceError."""
        with self.stream(text, **how) as chunks:
            samples = [chunk.samples for chunk in chunks]
        return Speech(np.concatenate(samples), chunks.sample_rate_hz, chunks.timings)

    def stream(self, text: str, **how: Unpack[SpeechParameters]) -> SpeechIterator:
        """Speak a text chunk by chunk. Raises VivavoceError."""
        return self.open(make_request(text, **how))

    def open(self, request: SpeechRequest) -> SpeechIterator:
        """``stream`` for a request that is made already. Raises VivavoceError."""
        return SpeechIterator(self, request)

    async def asynthesize(self, text: str, **how: Unpack[SpeechParameters]) -> Speech:
        """``synthesize`` for coroutines of any event loop."""
        return await asyncio.to_thread(self.synthesize, text, **how)

    async def astream(
        self, text: str, **how: Unpack[SpeechParameters]
    ) -> AsyncIterator[AudioChunk]:
        """``stream`` for coroutines; ``aclose`` cancels."""
        chunks = await asyncio.to_thread(self.stream, text, **how)
        try:
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield chunk
        finally:
            await asyncio.shield(asyncio.to_thread(chunks.close))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the service's event loop and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the engine and its thread. Idempotent."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self.service.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Synthesizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    engine: str = DEFAULT_ENGINE,
    *,
    model: str | Path | None = None,
    voice: str | None = None,
    device: str | None = None,
    **options: Any,
) -> Synthesizer:
    """Load an engine by name, and be ready to speak.

    ``model`` is a name or a path, ``voice`` the default voice, ``device`` "cpu" or "cuda";
    ``options`` are the engine's others, as in its table of settings.

    Raises SetupError, and SettingsError for an option that this engine does not have.
    """
    named = {"model": None if model is None else str(model), "voice": voice}
    own = {name: value for name, value in named.items() if value is not None} | options
    if device is not None:
        own |= dict.fromkeys(device_options(engine), device)
    return Synthesizer(SpeechService(create_engine(engine, own), ServiceOptions(cache_entries=0)))


def make_request(text: str, **how: Unpack[SpeechParameters]) -> SpeechRequest:
    """A request from keyword arguments. Raises InputError for an unknown one."""
    for name in how:
        if name not in SpeechParameters.__annotations__:
            raise InputError(f"Unknown argument {name!r}.", param=name)
    given = cast("dict[str, Any]", how)
    sampling = Sampling(**{name: given.pop(name) for name in SAMPLING_FIELDS if name in given})
    reference = given.pop("clone_from", None)
    return SpeechRequest(text, sampling=sampling, reference=reference, **given)


async def _next_or_none(stream: SpeechStream) -> AudioChunk | None:
    try:
        return await anext(stream)
    except StopAsyncIteration:
        return None
