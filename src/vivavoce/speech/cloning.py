"""Voices from recordings: decoded in a process apart, checked, and cloned in threads of their own.

A few at once, in the order in which they came. Whoever clones holds a slot of the engine. A thread
cannot be stopped; where its caller leaves, it keeps the slot until it has really ended, so that an
engine never clones beyond its capacity. The threads are daemons: one that hangs keeps no process
from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from vivavoce.audio.decode import check_voice_recording
from vivavoce.engines.base import Engine
from vivavoce.errors import DeadlineExceeded, EngineError, InvalidAudio, VivavoceError
from vivavoce.runtime.decoding import RecordingDecoder, samples_of
from vivavoce.speech.admission import Admission
from vivavoce.speech.voices import VoiceLibrary
from vivavoce.types import Recording, ReferenceAudio, Voice

log = logging.getLogger(__name__)

T = TypeVar("T")

CLONES_AT_ONCE = 2
END_LIMIT_S = 1.0
_QUICKLY_HASHED_BYTES = 256 * 1024


class Cloning:
    """Makes voices of recordings, ``CLONES_AT_ONCE`` at a time. Use it from one event loop.

    Its callers hold a slot of the engine, and wait ``limit_s`` at most. ``abandoned`` is told of
    work whose caller has left: the future is done when its thread has ended.
    """

    def __init__(
        self,
        engine: Engine,
        voices: Callable[[], VoiceLibrary],
        abandoned: Callable[[asyncio.Future[None]], None],
        limit_s: float = 300.0,
    ) -> None:
        self.decoder = RecordingDecoder()
        self._engine = engine
        self._voices = voices
        self._abandoned = abandoned
        self._limit_s = limit_s
        self._turns = Admission(CLONES_AT_ONCE, None)
        self._readings = asyncio.Semaphore(CLONES_AT_ONCE)
        self._running: dict[asyncio.Future[None], float] = {}

    @property
    def longest_s(self) -> float:
        """How long the oldest thread that runs now has been running; 0 where none does."""
        now_s = time.monotonic()
        return max((now_s - began_s for began_s in self._running.values()), default=0.0)

    async def clone(self, reference: ReferenceAudio | Recording) -> Voice:
        """A voice from a recording, remembered by the recording's content.

        Raises InvalidAudio, what the engine's ``clone`` raises, EngineError where that fails in
        another way, SetupError where recordings cannot be decoded here, and DeadlineExceeded.
        """
        async with self._in_time("Cloning"):
            key = await self._key(reference)
            if (known := self._voices().remembered(key)) is not None:
                return known
            async with self._turns.slot():
                voice = self._voices().remembered(key)
                if voice is None:  # nor has anybody sent the same recording a moment ago
                    voice = await self._in_thread(
                        await self._ready(reference), self._turns.withhold
                    )
                    self._voices().remember(key, voice)
                return voice

    async def save(self, name: str, voice: Voice, *, replacing: bool = False) -> Voice:
        """Keep a voice under a name that ``VoiceLibrary.check_new`` let pass.

        Raises Conflict, StorageError, and DeadlineExceeded.
        """
        async with self._in_time("Saving"):
            write = partial(self._voices().write, name, voice, replacing=replacing)
            kept = await self._in_thread(write)
        self._voices().remember_saved(kept)
        return kept

    async def close(self) -> None:
        """End the decoding processes; give threads a moment to end."""
        await self.decoder.close()
        if self._running:
            await asyncio.wait(set(self._running), timeout=END_LIMIT_S)
        if self._running:
            log.warning(
                "cloning goes on while the server ends", extra={"count": len(self._running)}
            )

    async def _key(self, reference: ReferenceAudio | Recording) -> str:
        """A digest of everything that alters the voice. No more than a few are read at once."""
        if isinstance(reference, ReferenceAudio):
            return await _digest(
                reference.samples.tobytes(), reference.sample_rate_hz, reference.transcript
            )
        async with self._readings:
            return await _digest(await reference.read(), 0, reference.transcript)

    async def _ready(self, reference: ReferenceAudio | Recording) -> Callable[[], Voice]:
        """What is left to do in a thread once a recording is decoded."""
        if isinstance(reference, ReferenceAudio):
            return partial(_checked_clone, self._engine, reference)
        answer = await self.decoder.decode(await reference.read(), param=reference.param)
        return partial(_decoded_clone, self._engine, reference, answer)

    @asynccontextmanager
    async def _in_time(self, what: str) -> AsyncIterator[None]:
        patience = asyncio.timeout(self._limit_s)
        try:
            async with patience:
                yield
        except TimeoutError:
            if patience.expired():
                raise DeadlineExceeded(f"{what} took longer than {self._limit_s:g} s.") from None
            raise

    async def _in_thread(
        self, work: Callable[[], T], *withhold: Callable[[asyncio.Future[None]], None]
    ) -> T:
        """Run ``work``; ``abandoned`` and ``withhold`` hear of it if its caller leaves."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        outcome: Future[T] = Future()
        arguments = (work, outcome, loop, ended)
        self._running[ended] = time.monotonic()
        ended.add_done_callback(self._running.pop)
        threading.Thread(
            target=_settle, args=arguments, name="vivavoce-cloning", daemon=True
        ).start()
        del work, arguments
        try:
            await asyncio.shield(ended)
            return outcome.result()
        except asyncio.CancelledError:
            if not ended.done():
                for tell in (self._abandoned, *withhold):
                    tell(ended)
            raise
        finally:
            # An error's traceback holds this frame: it shall not hold the error, nor a recording.
            del outcome


def _settle(
    work: Callable[[], T],
    outcome: Future[T],
    loop: asyncio.AbstractEventLoop,
    ended: asyncio.Future[None],
) -> None:
    """Run ``work`` into ``outcome``. What an engine raises on its own tells callers nothing."""
    try:
        made = work()
    except VivavoceError as error:
        outcome.set_exception(_bare(error))
    except BaseException as error:  # boundary: whatever an engine may raise
        log.error("cloning failed", extra={"kind": type(error).__name__})
        log.debug("cloning failed", exc_info=error)
        outcome.set_exception(EngineError("The voice could not be made of the recording."))
    else:
        outcome.set_result(made)
    with contextlib.suppress(RuntimeError):  # the event loop is no more
        loop.call_soon_threadsafe(ended.set_result, None)


def _bare(error: VivavoceError) -> VivavoceError:
    """Without tracebacks, whose frames hold the recording for as long as anybody has the error."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


def _decoded_clone(engine: Engine, recording: Recording, answer: bytes) -> Voice:
    samples, sample_rate_hz = samples_of(answer, param=recording.param)
    reference = ReferenceAudio(samples, sample_rate_hz, recording.transcript)
    return _checked_clone(engine, reference, recording.param)


def _checked_clone(engine: Engine, reference: ReferenceAudio, param: str | None = None) -> Voice:
    check_voice_recording(reference.samples, reference.sample_rate_hz, param)
    try:
        return engine.clone(reference)
    except InvalidAudio as error:
        raise InvalidAudio(error.message, param=error.param or param) from error


async def _digest(data: bytes, sample_rate_hz: int, transcript: str | None) -> str:
    def digest() -> str:
        summed = hashlib.sha256(data)
        summed.update(f"|{sample_rate_hz}|{transcript!r}".encode())
        return summed.hexdigest()

    return digest() if len(data) <= _QUICKLY_HASHED_BYTES else await asyncio.to_thread(digest)
