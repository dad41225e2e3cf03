"""The speech service: what every protocol, the command line and the Python API call.

A request is validated first (``prepare``), then takes a slot or a place in the queue, then its text
is read, then it speaks; the slot is held by a context around the whole of it. A request whose sound
is remembered needs no engine: there are as many slots and places again for those.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vivavoce.audio.join import Joiner
from vivavoce.audio.stretch import TimeStretch
from vivavoce.engines.base import Engine
from vivavoce.engines.guarded import GuardedEngine
from vivavoce.engines.watch import Activity, TimeLimits
from vivavoce.errors import DeadlineExceeded, EngineFailed, Unsupported, VivavoceError
from vivavoce.speech.admission import Admission
from vivavoce.speech.cache import AudioCache, Keeping
from vivavoce.speech.clauses import ClauseSource, WholeText, Wording, warm_text_up
from vivavoce.speech.cloning import Cloning
from vivavoce.speech.lifecycle import Lifecycle
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.pipeline import ClausePipeline
from vivavoce.speech.request import Prepared, key_of, prepare, utterance_of
from vivavoce.speech.stream import RememberedSound, SpeechStream, StreamLimits, outcome_of
from vivavoce.speech.voice_folder import warn_of_recordings
from vivavoce.speech.voices import MAX_SAVED_VOICES, VoiceLibrary
from vivavoce.text import Lexicon
from vivavoce.types import (
    Priority,
    Recording,
    ReferenceAudio,
    SpeechRequest,
    Timings,
    Voice,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Bounds and defaults of a service. ``capacity`` None takes the engine's.

    ``own_process``: this process speaks and does nothing else (see ``Lifecycle``).
    Saved voices are kept in a folder of the engine's below ``voices_folder`` (None: in memory).
    Recordings in ``recordings_folders`` are no voices; the log says so.
    """

    capacity: int | None = None
    max_waiting: int | None = 32
    max_input_chars: int = 20_000
    cache_entries: int = 256
    cache_bytes: int = 32 * 1024 * 1024
    voice_cache_max: int = 32
    voices_folder: Path | None = None
    recordings_folders: Sequence[Path] = ()
    max_saved_voices: int = MAX_SAVED_VOICES
    idle_timeout_s: float = 0.0
    normalize: bool = True
    lexicon: Lexicon = field(default_factory=Lexicon)
    limits: StreamLimits = field(default_factory=StreamLimits)
    engine_limits: TimeLimits = field(default_factory=TimeLimits)
    own_process: bool = False


class SpeechService:
    """One engine and everything around it. Use it from one event loop."""

    def __init__(
        self,
        engine: Engine,
        options: ServiceOptions | None = None,
        observer: SpeechObserver | None = None,
    ) -> None:
        self.options = options or ServiceOptions()
        self.engine = engine
        self.observer = observer or SpeechObserver()
        self.lifecycle = Lifecycle(
            engine,
            self.observer,
            self.options.idle_timeout_s,
            self.options.engine_limits,
            own_process=self.options.own_process,
        )
        self.lifecycle.watch(self._clone_in_progress)
        self.cache = AudioCache(self.options.cache_entries, self.options.cache_bytes)
        capacity, places = self.options.capacity or engine.capacity, self.options.max_waiting
        self.admission = Admission(capacity, places, self.observer.waiting)
        self.remembering = Admission(capacity, places, self.observer.remembering)
        self._wording = Wording(
            self.options.normalize, self.options.lexicon, self.options.max_input_chars
        )
        self._voices: VoiceLibrary | None = None
        limit_s = self.options.limits.request_timeout_s
        self.cloning = Cloning(self.guarded, lambda: self.voices, self._abandoned, limit_s)

    @property
    def guarded(self) -> GuardedEngine:
        """The engine behind a wall: for every call but that for ``info`` and ``capacity``."""
        return self.lifecycle.loop.guarded

    @property
    def voices(self) -> VoiceLibrary:
        """The voice library (made when first asked for: engines know their names late)."""
        if self._voices is None:
            chosen = self.options
            self._voices = VoiceLibrary(
                self.guarded, chosen.voices_folder, chosen.voice_cache_max, chosen.max_saved_voices
            )
        return self._voices

    async def start(self, *, preload: bool = True) -> None:
        """Load the engine and prove that it speaks. Raises SetupError, EngineError."""
        await asyncio.to_thread(warm_text_up)
        await asyncio.to_thread(self.voices.saved)  # no request shall be the first to read them
        await self.lifecycle.start(preload=preload)
        folders = self.options.recordings_folders
        await asyncio.to_thread(warn_of_recordings, self.voices, self.engine.info, folders)

    async def close(self) -> None:
        """Stop the engine's thread, and what clones."""
        await self.cloning.close()
        await self.lifecycle.close()

    def prepare(self, request: SpeechRequest) -> Prepared:
        """Validate a request but for its text. Raises InputError and Unavailable."""
        arrived_s = time.monotonic()
        self.lifecycle.check_open()
        return prepare(
            request,
            self.guarded,
            self.voices.resolve,
            max_input_chars=self.options.max_input_chars,
            arrived_s=arrived_s,
        )

    @asynccontextmanager
    async def open(
        self, request: SpeechRequest, transport: str = "python"
    ) -> AsyncIterator[SpeechStream]:
        """Speak a request: validates, takes a slot, yields the stream, frees everything.

        Raises InputError, Busy, Unavailable before the stream exists; the stream raises the rest.
        A text is not read before the request has a slot or a place in the queue. An engine that
        fails for good ends all of it, whatever is waited for, unless all of the sound was taken.
        """
        timings, outcome = Timings(characters=len(request.text)), _Ending()
        try:
            ready = self.prepare(request)
            timings = ready.timings
            heard = self.lifecycle.loop.verdict.heard(outcome.fail)
            async with heard, self._stream(ready) as stream:
                outcome.stream = stream
                yield stream
        except VivavoceError as error:
            outcome.error = error
            raise
        finally:
            self.observer.finished(outcome.name(), timings, transport)

    async def clone(self, reference: ReferenceAudio | Recording) -> Voice:
        """A voice from a recording, for a caller who holds a slot; raises as ``Cloning.clone``."""
        return await self.cloning.clone(reference)

    async def save_voice(
        self,
        name: str,
        reference: ReferenceAudio | Recording,
        description: str = "",
        consent: str = "",
        *,
        replacing: bool = False,
    ) -> Voice:
        """Clone a voice and keep it under a name. Takes a slot: cloning is work for the engine.

        ``replacing``: in place of a saved voice of that name, if there is one.

        Raises Conflict, TooManyVoices, InputError, InvalidAudio, Unsupported, Busy, Unavailable,
        DeadlineExceeded, StorageError. Ends with EngineFailed as ``open`` does.
        """
        self.lifecycle.check_open()
        if not self.engine.info.capabilities.cloning:
            engine = self.engine.info.name
            raise Unsupported(f"The engine {engine!r} cannot clone voices.", param="voice")
        name = self.voices.check_new(name, description, consent, replacing=replacing)
        limit_s = self.options.limits.request_timeout_s
        slot = self.admission.slot(Priority.BATCH, limit_s)
        async with self.lifecycle.loop.verdict.heard(), slot, self._in_use():
            voice = replace(await self.clone(reference), description=description, consent=consent)
            return await self.cloning.save(name, voice, replacing=replacing)

    def _abandoned(self, ended: asyncio.Future[None]) -> None:
        """Work on the engine goes on without its caller: so long nobody else gets its slot."""
        self.admission.withhold(ended)
        self.lifecycle.stay_until(ended)

    @asynccontextmanager
    async def _stream(self, ready: Prepared) -> AsyncIterator[SpeechStream]:
        """The stream of a request, with the slot it needs held around it."""
        key = key_of(ready, self.options.lexicon) if self.cache.max_entries else None
        kept = None if key is None else self.cache.get(key)
        async with AsyncExitStack() as held:
            if kept is not None:
                await held.enter_async_context(self._remembered_slot(ready))
                rate_hz, limits = self.engine.info.sample_rate_hz, self.options.limits
                sound = RememberedSound(kept, piece_samples=rate_hz)
                stream = SpeechStream(ready, sound, rate_hz, limits, self.observer)
            else:
                clauses = await held.enter_async_context(self._engine_slot(ready))
                keeping = None if key is None else Keeping(self.cache, key)
                stream = await self._made(ready, clauses, keeping)
            try:
                yield stream
            finally:
                stream.close()

    @asynccontextmanager
    async def _remembered_slot(self, ready: Prepared) -> AsyncIterator[None]:
        """A slot for sound that needs no engine."""
        limit_s = self.options.limits.request_timeout_s
        async with self.remembering.slot(ready.request.priority, limit_s) as waited_s:
            ready.timings.cached = True
            ready.timings.queue_ms = waited_s * 1000
            yield

    @asynccontextmanager
    async def _engine_slot(self, ready: Prepared) -> AsyncIterator[ClauseSource]:
        """A slot of a loaded engine, and the clauses that are to be spoken in it."""
        clauses: ClauseSource = WholeText(iter(()))

        async def read_text() -> None:
            nonlocal clauses
            clauses = WholeText(await self._wording.clauses(ready))

        limit_s = self.options.limits.request_timeout_s
        slot = self.admission.slot(ready.request.priority, limit_s, read_text)
        async with slot as waited_s:
            began_s = time.monotonic()
            async with self._in_use():
                ready.timings.queue_ms = (waited_s + time.monotonic() - began_s) * 1000
                yield clauses

    @asynccontextmanager
    async def _in_use(self) -> AsyncIterator[None]:
        """Use of the loaded engine. Raises DeadlineExceeded where loading takes too long."""
        limit_s = self.options.limits.request_timeout_s
        patience = asyncio.timeout(limit_s)
        try:
            async with patience:
                await self.lifecycle.enter()
        except TimeoutError:
            if patience.expired():
                raise DeadlineExceeded(f"The engine was not loaded within {limit_s:g} s.") from None
            raise
        try:
            yield
        finally:
            self.lifecycle.leave()

    async def _made(
        self, ready: Prepared, clauses: ClauseSource, keeping: Keeping | None
    ) -> SpeechStream:
        """Speech that is made now; the slot is taken."""
        voice, info = ready.voice, self.engine.info
        if voice is None:
            assert ready.request.reference is not None
            voice = await self.clone(ready.request.reference)
        speed, rate_hz, native = ready.request.speed, info.sample_rate_hz, info.capabilities.speed
        joiner = Joiner(rate_hz, speed if native else 1.0)
        pipeline = ClausePipeline(
            clauses,
            lambda clause, deadline_s: utterance_of(ready, voice, clause, deadline_s, self.guarded),
            self.lifecycle.loop.open,
            joiner,
            rate_hz,
            ready.timings,
        )
        pipeline.start()
        stretch = None if native or speed == 1.0 else TimeStretch(speed, rate_hz)
        return SpeechStream(
            ready,
            pipeline,
            rate_hz,
            self.options.limits,
            self.observer,
            stretch=stretch,
            keeping=keeping,
        )

    def _clone_in_progress(self) -> Activity | None:
        """The clone that has taken longest, for the watch; its own executor knows."""
        lasted_s = self.cloning.longest_s
        if not lasted_s:
            return None
        limit_s = self.options.engine_limits.clone_s
        return Activity("cloning a voice", limit_s, time.monotonic() - lasted_s)


@dataclass(slots=True)
class _Ending:
    """How a request ended, for the observer."""

    stream: SpeechStream | None = None
    error: VivavoceError | None = None

    def fail(self, failure: EngineFailed) -> bool:
        """End what there is; False where the sound is out."""
        return self.stream is None or self.stream.give_up(failure)

    def name(self) -> Outcome:
        if self.stream is not None and self.stream.outcome is not None:
            return self.stream.outcome
        return "cancelled" if self.error is None else outcome_of(self.error)
