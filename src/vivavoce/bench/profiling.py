"""Where the time of a request goes inside this process, stage by stage, without any network."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Unpack

from vivavoce.bench.device import provenance
from vivavoce.bench.heard import FLOAT_FULL_SCALE, AudibleDetector
from vivavoce.bench.results import SCHEMA
from vivavoce.bench.stats import Distribution
from vivavoce.bench.texts import TextSource
from vivavoce.engines.base import EngineInfo
from vivavoce.runtime.machine import peak_resident_bytes
from vivavoce.types import AudioChunk, Timings

if TYPE_CHECKING:
    from vivavoce.speech.synthesizer import SpeechParameters


class Chunks(Protocol):
    """A request under way, as ``Synthesizer.stream`` gives it."""

    timings: Timings

    def __iter__(self) -> Iterator[AudioChunk]:
        """The chunks as they are made."""
        ...

    def close(self) -> None:
        """Cancel what is left."""
        ...


class Speaks(Protocol):
    """What is profiled: ``vivavoce.load(…)`` or anything like it."""

    @property
    def info(self) -> EngineInfo:
        """The engine, as it is loaded."""
        ...

    def stream(self, text: str, **how: Unpack[SpeechParameters]) -> Chunks:
        """Start to speak a text."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: milliseconds of each stage, and how much sound it made.

    ``audible_ms`` is when a listener without a buffer hears the first audible sample.
    """

    characters: int
    audio_s: float
    stages_ms: Mapping[str, float]
    first_chunk_ms: float
    total_ms: float
    tokens: int = 0
    first_token_ms: float | None = None
    audible_ms: float | None = None

    @property
    def rtf(self) -> float | None:
        """Seconds of work per second of sound."""
        return self.total_ms / 1000 / self.audio_s if self.audio_s else None

    @property
    def tokens_per_s(self) -> float | None:
        """How fast the model made tokens after its first one."""
        if self.first_token_ms is None or self.total_ms <= self.first_token_ms:
            return None
        return (self.tokens - 1) * 1000 / (self.total_ms - self.first_token_ms)


@dataclass(frozen=True, slots=True)
class LengthProfile:
    """Many requests of one kind of text. ``stages_ms`` keeps the order of the work."""

    kind: str
    characters: Distribution | None
    audio_s: Distribution | None
    stages_ms: dict[str, Distribution | None]
    first_token_ms: Distribution | None
    tokens_per_s: Distribution | None
    first_chunk_ms: Distribution | None
    total_ms: Distribution | None
    rtf: Distribution | None
    audible_ms: Distribution | None = None


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """An engine on this machine: how long it took to load, its first request, then the rest.

    ``details`` are what the engine tells of itself: backbone and codec, threads, precision.
    ``peak_memory_mb`` is the most this process has had resident, None where the system does not
    tell. ``frames_per_s`` is how many codec frames the engine makes a second (median), for engines
    that tell their ``frame_rate_hz``.
    """

    engine: str
    model: str
    device: str
    details: Mapping[str, Any]
    load_ms: float
    peak_memory_mb: float | None
    frames_per_s: float | None
    cold: Sample
    lengths: tuple[LengthProfile, ...]

    def report(self) -> dict[str, Any]:
        """As it is stored, with where and with what it was measured."""
        return {
            "schema": SCHEMA,
            "kind": "profile",
            **provenance(),
            **dataclasses.asdict(self),
        }


def take_sample(speaks: Speaks, text: str, how: SpeechParameters) -> Sample:
    """Speak one text and time it. Raises what the engine raises."""
    started_s = time.perf_counter()
    chunks = speaks.stream(text, **how)
    first_s: float | None = None
    onset: AudibleDetector | None = None
    audio_s = 0.0
    try:
        for chunk in chunks:
            if len(chunk.samples):
                now_s = time.perf_counter()
                first_s = first_s or now_s
                onset = onset or AudibleDetector(chunk.sample_rate_hz, full_scale=FLOAT_FULL_SCALE)
                onset.feed(now_s, chunk.samples)
            audio_s += chunk.duration_s
    finally:
        chunks.close()
    ended_s = time.perf_counter()
    timings = chunks.timings
    return Sample(
        characters=len(text),
        audio_s=audio_s,
        stages_ms={
            "normalise": timings.normalize_ms,
            "queue": timings.queue_ms,
            **timings.stages_ms,
        },
        first_chunk_ms=((first_s or ended_s) - started_s) * 1000,
        total_ms=(ended_s - started_s) * 1000,
        tokens=timings.tokens,
        first_token_ms=timings.first_token_ms,
        audible_ms=None
        if onset is None or onset.audible_at_s is None
        else (onset.audible_at_s - started_s) * 1000,
    )


def profile_length(kind: str, samples: Sequence[Sample]) -> LengthProfile:
    """The spread of each figure over the samples; a stage that did not occur counts as absent."""
    names = dict.fromkeys(name for sample in samples for name in sample.stages_ms)
    return LengthProfile(
        kind=kind,
        characters=Distribution.of(sample.characters for sample in samples),
        audio_s=Distribution.of(sample.audio_s for sample in samples),
        stages_ms={
            name: Distribution.of(sample.stages_ms.get(name) for sample in samples)
            for name in names
        },
        first_token_ms=Distribution.of(sample.first_token_ms for sample in samples),
        tokens_per_s=Distribution.of(sample.tokens_per_s for sample in samples),
        first_chunk_ms=Distribution.of(sample.first_chunk_ms for sample in samples),
        total_ms=Distribution.of(sample.total_ms for sample in samples),
        rtf=Distribution.of(sample.rtf for sample in samples),
        audible_ms=Distribution.of(sample.audible_ms for sample in samples),
    )


@dataclass(frozen=True, slots=True)
class Profiler:
    """Runs each kind of text ``runs`` times, taking turns, so that drift hits all kinds alike."""

    texts: Mapping[str, TextSource]
    runs: int
    how: SpeechParameters
    on_run: Callable[[], None] = lambda: None

    def profile(self, load: Callable[[], Speaks]) -> EngineProfile:
        """Load, speak once cold, then measure. The caller closes what ``load`` made."""
        started_s = time.perf_counter()
        speaks = load()
        load_ms = (time.perf_counter() - started_s) * 1000
        kinds = list(self.texts)
        cold = take_sample(speaks, self.texts[kinds[0]].next(), self.how)
        samples: dict[str, list[Sample]] = {kind: [] for kind in kinds}
        for kind in self._turns(kinds):
            samples[kind].append(take_sample(speaks, self.texts[kind].next(), self.how))
            self.on_run()
        lengths = tuple(profile_length(kind, samples[kind]) for kind in kinds)
        every = [sample for kind in kinds for sample in samples[kind]]
        info = speaks.info
        return EngineProfile(
            info.name,
            info.model,
            info.device,
            dict(info.details),
            load_ms,
            None if (peak := peak_resident_bytes()) is None else peak / 1e6,
            _frames_per_s(info, every),
            cold,
            lengths,
        )

    def _turns(self, kinds: Sequence[str]) -> Iterable[str]:
        return (kind for _ in range(self.runs) for kind in kinds)


def _frames_per_s(info: EngineInfo, samples: Sequence[Sample]) -> float | None:
    rate_hz = info.details.get("frame_rate_hz")
    factors = [sample.rtf for sample in samples if sample.rtf]
    return rate_hz / statistics.median(factors) if rate_hz and factors else None
