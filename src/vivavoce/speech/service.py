"""The speech service: what every protocol, the command line and the Python API call.

A request is validated first (``prepare``), then takes a slot, then speaks; the slot is held by a
context around the whole of it. A request whose sound is in the cache needs no slot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from vivavoce.audio.join import Joiner
from vivavoce.audio.pcm import to_int16
from vivavoce.audio.stretch import TimeStretch
from vivavoce.engines.base import Engine
from vivavoce.engines.guarded import GuardedEngine
from vivavoce.engines.watch import Activity, TimeLimits
from vivavoce.errors import (
    Busy,
    DeadlineExceeded,
    EmptyInput,
    InputError,
    InputTooLong,
    Unavailable,
    Unsupported,
    VivavoceError,
)
from vivavoce.speech.admission import Admission
from vivavoce.speech.cache import AudioCache, Key, cache_key
from vivavoce.speech.cloning import Cloning
from vivavoce.speech.lifecycle import Lifecycle
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.pipeline import ClausePipeline
from vivavoce.speech.stream import (
    Source,
    SpeechStream,
    StreamLimits,
    cached_source,
    pipeline_source,
)
from vivavoce.speech.voices import MAX_SAVED_VOICES, VoiceLibrary
from vivavoce.text import Lexicon, TextOptions, clauses
from vivavoce.text.duration import max_duration_s
from vivavoce.text.languages import language_code
from vivavoce.types import (
    Clause,
    Priority,
    Recording,
    ReferenceAudio,
    SpeechRequest,
    Timings,
    Utterance,
    Voice,
)

log = logging.getLogger(__name__)

BATCH_PATIENCE_S = 60.0
"""How much later than real-time requests a batch request may be served inside the engine."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Bounds and defaults of a service. ``capacity`` None takes the engine's."""

    capacity: int | None = None
    max_waiting: int | None = 32
    max_input_chars: int = 20_000
    cache_entries: int = 256
    cache_bytes: int = 32 * 1024 * 1024
    voice_cache_max: int = 32
    voices_folder: Path | None = None
    max_saved_voices: int = MAX_SAVED_VOICES
    idle_timeout_s: float = 0.0
    normalize: bool = True
    lexicon: Lexicon = field(default_factory=Lexicon)
    limits: StreamLimits = field(default_factory=StreamLimits)
    engine_limits: TimeLimits = field(default_factory=TimeLimits)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that has passed validation: what to speak, as whom, and what is ignored.

    ``voice`` is None for a request with a reference recording until it is cloned.
    """

    request: SpeechRequest
    voice: Voice | None
    language: str | None
    clauses: Iterator[Clause]
    lexicon: Lexicon
    ignored: tuple[str, ...]
    timings: Timings
    arrived_s: float


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
            engine, self.observer, self.options.idle_timeout_s, self.options.engine_limits
        )
        self.lifecycle.watch(self._clone_in_progress)
        self.cache = AudioCache(self.options.cache_entries, self.options.cache_bytes)
        capacity = self.options.capacity or engine.capacity
        self.admission = Admission(capacity, self.options.max_waiting, self.observer)
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
        await asyncio.to_thread(_warm_text_up)
        await asyncio.to_thread(self.voices.saved)  # no request shall be the first to read them
        await self.lifecycle.start(preload=preload)

    async def close(self) -> None:
        """Stop the engine's thread, and what clones."""
        await self.cloning.close()
        await self.lifecycle.close()

    def prepare(self, request: SpeechRequest) -> Prepared:
        """Validate a request without taking a slot. Raises InputError and Unavailable."""
        arrived_s = time.monotonic()
        self.lifecycle.check_open()
        if len(request.text) > self.options.max_input_chars:
            raise InputTooLong(len(request.text), self.options.max_input_chars)
        if not 0.25 <= request.speed <= 4.0:
            raise InputError("speed must be between 0.25 and 4.0.", param="speed")
        voice = None if request.reference is not None else self.voices.resolve(request.voice)
        if request.reference is not None and not self.engine.info.capabilities.cloning:
            name = self.engine.info.name
            raise Unsupported(f"The engine {name!r} cannot clone voices.", param="voice")
        language = self._language(request, voice)
        lexicon = self.options.lexicon.merged(request.lexicon)
        timings = Timings(characters=len(request.text), arrived_s=arrived_s)
        began_s = time.monotonic()
        spoken = self._spoken(request, language, lexicon)
        timings.normalise_ms = (time.monotonic() - began_s) * 1000
        ignored = self._ignored(request)
        prepared = Prepared(request, voice, language, spoken, lexicon, ignored, timings, arrived_s)
        if voice is not None:
            self.guarded.validate(self._utterance(prepared, voice, Clause(()), 0.0))
        return prepared

    @asynccontextmanager
    async def open(
        self, request: SpeechRequest, transport: str = "python"
    ) -> AsyncIterator[SpeechStream]:
        """Speak a request: validates, takes a slot, yields the stream, frees everything.

        Raises InputError, Busy, Unavailable before the stream exists; the stream raises the rest.
        """
        timings, outcome = Timings(characters=len(request.text)), _Ending()
        try:
            prepared = self.prepare(request)
            timings = prepared.timings
            async with self._stream(prepared) as stream:
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
    ) -> Voice:
        """Clone a voice and keep it under a name. Takes a slot: cloning is work for the engine.

        Raises Conflict, TooManyVoices, InputError, InvalidAudio, Unsupported, Busy, Unavailable,
        DeadlineExceeded, StorageError.
        """
        self.lifecycle.check_open()
        if not self.engine.info.capabilities.cloning:
            engine = self.engine.info.name
            raise Unsupported(f"The engine {engine!r} cannot clone voices.", param="voice")
        name = self.voices.check_new(name, description, consent)
        limit_s = self.options.limits.request_timeout_s
        async with self.admission.slot(Priority.BATCH, limit_s), self._in_use():
            voice = replace(await self.clone(reference), description=description, consent=consent)
            return await self.cloning.save(name, voice)

    def _abandoned(self, ended: asyncio.Future[None]) -> None:
        """Work on the engine goes on without its caller: so long nobody else gets its slot."""
        self.admission.withhold(ended)
        self.lifecycle.stay_until(ended)

    @asynccontextmanager
    async def _stream(self, prepared: Prepared) -> AsyncIterator[SpeechStream]:
        key = self._cache_key(prepared)
        remembered = None if key is None else self.cache.get(key)
        if remembered is not None:
            prepared.timings.cached = True
            source = cached_source(remembered, self.engine.info.sample_rate_hz)
            stream = self._speech_stream(prepared, source, None)
            try:
                yield stream
            finally:
                stream.close()
            return
        limit_s = self.options.limits.request_timeout_s
        patience = asyncio.timeout(limit_s)
        try:
            async with patience, self.admission.slot(prepared.request.priority), self._in_use():
                patience.reschedule(None)  # from here on the stream has a deadline of its own
                async with self._fresh(prepared, key) as stream:
                    yield stream
        except TimeoutError:
            if patience.expired():
                raise DeadlineExceeded(f"No slot within {limit_s:g} s.") from None
            raise

    @asynccontextmanager
    async def _fresh(self, prepared: Prepared, key: Key | None) -> AsyncIterator[SpeechStream]:
        """Speech that is made now; the slot is taken."""
        prepared.timings.queue_ms = (time.monotonic() - prepared.arrived_s) * 1000
        stream = self._speech_stream(prepared, *await self._source(prepared))
        if key is not None:
            stream.on_complete = lambda samples: self.cache.put(key, to_int16(samples))
        try:
            yield stream
        finally:
            stream.close()

    @asynccontextmanager
    async def _in_use(self) -> AsyncIterator[None]:
        await self.lifecycle.enter()
        try:
            yield
        finally:
            self.lifecycle.leave()

    async def _source(self, prepared: Prepared) -> tuple[Source, TimeStretch | None]:
        voice = prepared.voice
        if voice is None:
            assert prepared.request.reference is not None
            voice = await self.clone(prepared.request.reference)
        speed, rate_hz = prepared.request.speed, self.engine.info.sample_rate_hz
        native = self.engine.info.capabilities.speed
        joiner = Joiner(rate_hz, speed if native else 1.0)
        pipeline = ClausePipeline(
            prepared.clauses,
            lambda clause, deadline_s: self._utterance(prepared, voice, clause, deadline_s),
            self.lifecycle.loop.open,
            joiner,
            rate_hz,
            prepared.timings,
        )
        pipeline.start()
        stretch = None if native or speed == 1.0 else TimeStretch(speed, rate_hz)
        return pipeline_source(pipeline, joiner.finish, rate_hz), stretch

    def _speech_stream(
        self, prepared: Prepared, source: Source, stretch: TimeStretch | None
    ) -> SpeechStream:
        stream = SpeechStream(source, prepared.timings, self.options.limits, self.observer, stretch)
        stream.began_s = prepared.arrived_s
        stream.ignored = prepared.ignored
        stream.voice = prepared.voice
        stream.by_clause = prepared.request.stream_mode == "sentence"
        return stream

    def _clone_in_progress(self) -> Activity | None:
        """The clone that has taken longest, for the watch; its own executor knows."""
        lasted_s = self.cloning.longest_s
        if not lasted_s:
            return None
        limit_s = self.options.engine_limits.clone_s
        return Activity("cloning a voice", limit_s, time.monotonic() - lasted_s)

    def _utterance(
        self, prepared: Prepared, voice: Voice, clause: Clause, deadline_s: float
    ) -> Utterance:
        request, can = prepared.request, self.engine.info.capabilities
        speed = request.speed if can.speed else 1.0
        sampling = (
            request.sampling
            if can.sampling
            else replace(request.sampling, temperature=None, top_p=None)
        )
        patience_s = BATCH_PATIENCE_S if request.priority is Priority.BATCH else 0.0
        utterance = Utterance(
            spans=clause.spans,
            voice=voice,
            language=prepared.language,
            speed=speed,
            instructions=request.instructions if can.instructions else None,
            sampling=sampling if can.seed else replace(sampling, seed=None),
            deadline_s=deadline_s + patience_s,
            max_audio_s=max_duration_s(clause.text, speed, prepared.language),
            options=request.options,
        )
        return replace(utterance, max_audio_s=self.guarded.longest_audio_s(utterance))

    def _spoken(
        self, request: SpeechRequest, language: str | None, lexicon: Lexicon
    ) -> Iterator[Clause]:
        """The clauses, lazily; the first one is made now. Raises EmptyInput."""
        normalize = request.normalize and self.options.normalize
        options = TextOptions(language, normalize, request.ssml, lexicon)
        lazily = clauses(request.text, options)
        silent: list[Clause] = []
        for clause in lazily:
            if clause.spans:
                return chain(silent, (clause,), lazily)
            silent.append(clause)
        raise EmptyInput

    def _language(self, request: SpeechRequest, voice: Voice | None) -> str | None:
        """ISO 639-1 of what is spoken; the voice's own where none is asked for."""
        tags = (voice.languages if voice is not None else ()) or self.engine.info.languages
        own = sorted({language_code(tag) for tag in tags})
        if request.language is None or request.language.lower() == "auto":
            return own[0] if len(own) == 1 else None
        code = language_code(request.language)
        if own and code not in own:
            spoken = ", ".join(own)
            raise Unsupported(
                f"The voice does not speak {request.language!r}; it speaks {spoken}.",
                param="language",
            )
        return code

    def _ignored(self, request: SpeechRequest) -> tuple[str, ...]:
        can, sampling = self.engine.info.capabilities, request.sampling
        given = {
            "instructions": bool(request.instructions) and not can.instructions,
            "temperature": sampling.temperature is not None and not can.sampling,
            "top_p": sampling.top_p is not None and not can.sampling,
            "seed": sampling.seed is not None and not can.seed,
        }
        return tuple(name for name, unused in given.items() if unused)

    def _cache_key(self, prepared: Prepared) -> Key | None:
        if prepared.voice is None or self.cache.max_entries == 0:
            return None
        lexicon = frozenset(prepared.lexicon.items())
        return cache_key(prepared.request, prepared.voice, prepared.language, lexicon)


@dataclass(slots=True)
class _Ending:
    """How a request ended, for the observer."""

    stream: SpeechStream | None = None
    error: VivavoceError | None = None

    def name(self) -> Outcome:
        if self.stream is not None and self.stream.outcome is not None:
            return self.stream.outcome
        match self.error:
            case InputError():
                return "invalid"
            case DeadlineExceeded():
                return "deadline"
            case Busy() | Unavailable():
                return "rejected"
            case VivavoceError():
                return "engine_error"
        return "cancelled"


def _warm_text_up() -> None:
    """Patterns are compiled at their first use; no caller should pay for that."""
    for _ in clauses("Dr. Lee paid $5.20 at 4:30 pm on May 3rd, 2026.", TextOptions("en")):
        pass
