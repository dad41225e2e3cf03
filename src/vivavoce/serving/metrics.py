"""Prometheus metrics: an observer of the speech service, and ``/metrics``."""

from __future__ import annotations

import platform

from fastapi import APIRouter, Request, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

import vivavoce
from vivavoce.engines.base import EngineInfo
from vivavoce.errors import NotFound
from vivavoce.runtime.worker import WorkerPool
from vivavoce.serving.context import context_of
from vivavoce.serving.hardware import memory_bytes
from vivavoce.serving.problems import documented
from vivavoce.serving.usage import Usage
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.types import Gpu, Timings

FIRST_AUDIO_S = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
QUEUE_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)

GRAPHS = ("captured", "failed", "replayed", "eager")
"""Of an engine that captures: graphs that were, and were not; runs with one, and without."""

router = APIRouter(tags=["health"])


class PrometheusObserver(SpeechObserver):
    """Counts and times in a registry of its own. Of callers, labels name the keys alone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.usage = Usage(self.registry)
        self._count()
        self._time()

    def describe(self, info: EngineInfo) -> None:
        """Say who speaks (``tts_build_info``); an engine knows its model only once loaded."""
        self._build.clear()
        self._build.labels(
            version=vivavoce.__version__,
            engine=info.name,
            model=info.model,
            python=platform.python_version(),
        ).set(1)
        for state in GRAPHS:
            count = info.details.get(f"graphs_{state}")
            if count is not None:
                self._graphs.labels(state=state).set(count)

    def gpu(self, gpu: Gpu | None) -> None:
        """The engine's card, as it is now."""
        self._gpu_memory.clear()
        for kind, size_bytes in memory_bytes(gpu).items():
            self._gpu_memory.labels(kind=kind).set(size_bytes)

    def buffered(self, size_bytes: int) -> None:
        """Sound that waits for its consumers now."""
        self._buffer.set(size_bytes)

    def decoding(self, pool: WorkerPool) -> None:
        """The processes that decode recordings."""
        counts = {"running": len(pool.pids), "started": pool.started, "died": pool.died}
        for state, count in counts.items():
            self._decoders.labels(state=state).set(count)

    def stepped(self, duration_s: float, live: int) -> None:
        """Called on the engine thread."""
        self._step.labels(stage="step").observe(duration_s)
        self._batch.observe(live)

    def released(self, waited_s: float) -> None:
        """Called on the engine thread."""
        self._release.observe(waited_s)

    def waiting(self, running: int, waiting: int) -> None:
        """Slots and queue."""
        self._running.set(running)
        self._waiting.set(waiting)

    def remembering(self, running: int, waiting: int) -> None:
        """Slots and queue of remembered speech."""
        self._remembered_running.set(running)
        self._remembered_waiting.set(waiting)

    def first_audio(self, timings: Timings) -> None:
        """Queue and first sound."""
        self._queue.observe(timings.queue_ms / 1000)
        if timings.first_audio_ms is not None:
            self._first.observe(timings.first_audio_ms / 1000)

    def chunk_gap(self, gap_s: float) -> None:
        """Between two chunks."""
        self._gap.observe(gap_s)

    def underrun(self) -> None:
        """A chunk that came too late."""
        self._underruns.inc()

    def rejected(self, spent_s: float) -> None:
        """A request that was turned away."""
        self._rejects.observe(spent_s)

    def finished(self, outcome: Outcome, timings: Timings, transport: str) -> None:
        """The sums of one request, also for its caller's key."""
        self.usage.add(timings)
        self._requests.labels(outcome=outcome, transport=transport).inc()
        self._audio.inc(timings.audio_s)
        self._characters.inc(timings.characters)
        for stage, spent_ms in timings.stages_ms.items():
            self._step.labels(stage=stage).observe(spent_ms / 1000)
        if timings.rtf is not None and not timings.cached:
            self._factor.observe(timings.rtf)

    def _count(self) -> None:
        own = self.registry
        self._build = Gauge(
            "tts_build_info", "Who speaks.", ["version", "engine", "model", "python"], registry=own
        )
        self._requests = Counter(
            "tts_requests", "Requests that ended.", ["outcome", "transport"], registry=own
        )
        self._graphs = Gauge(
            "tts_engine_graphs",
            "Captured GPU graphs: captured and failed ones, runs replayed and run without.",
            ["state"],
            registry=own,
        )
        self._gpu_memory = Gauge(
            "tts_gpu_memory_bytes",
            "The engine's card: allocated and reserved by this process, free and in total.",
            ["kind"],
            registry=own,
        )
        self._decoders = Gauge(
            "tts_decoder_processes",
            "Processes that decode recordings: running, started and died so far.",
            ["state"],
            registry=own,
        )
        self._running = Gauge("tts_requests_running", "Requests in slots.", registry=own)
        self._waiting = Gauge("tts_requests_waiting", "Requests in the queue.", registry=own)
        self._remembered_running = Gauge(
            "tts_remembered_running", "Remembered speech on its way.", registry=own
        )
        self._remembered_waiting = Gauge(
            "tts_remembered_waiting", "Remembered speech in its queue.", registry=own
        )
        self._buffer = Gauge(
            "tts_stream_buffer_bytes", "Sound that waits for its consumers.", registry=own
        )
        self._underruns = Counter(
            "tts_playback_underruns", "Chunks that came after playback had run dry.", registry=own
        )
        self._audio = Counter("tts_audio_seconds", "Seconds of sound delivered.", registry=own)
        self._characters = Counter(
            "tts_input_characters", "Characters of text taken.", registry=own
        )

    def _time(self) -> None:
        self._queue = self._histogram("tts_queue_seconds", "Wait for a slot.", QUEUE_S)
        self._first = self._histogram(
            "tts_time_to_first_audio_seconds", "Arrival to the first sound.", FIRST_AUDIO_S
        )
        self._gap = self._histogram("tts_chunk_gap_seconds", "Between two chunks.", SHORT_S)
        self._release = self._histogram(
            "tts_cancel_to_release_seconds", "Hang-up to the engine's slot being free.", SHORT_S
        )
        self._rejects = self._histogram(
            "tts_reject_seconds", "End of a body to the end of its 429.", SHORT_S
        )
        self._factor = self._histogram(
            "tts_realtime_factor", "Time spent per second of sound.", FACTORS
        )
        self._batch = self._histogram("tts_batch_size", "Utterances in a step.", BATCHES)
        self._step = Histogram(
            "tts_step_seconds",
            "Engine steps (stage='step'), and the work of each stage per request.",
            ["stage"],
            buckets=SHORT_S,
            registry=self.registry,
        )

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(404),
    },
)
async def metrics(request: Request) -> Response:
    """In Prometheus' text format; 404 where the settings switch them off."""
    context = context_of(request)
    observer = context.service.observer
    if not context.settings.metrics or not isinstance(observer, PrometheusObserver):
        raise NotFound("Metrics are switched off.")
    observer.describe(context.service.engine.info)
    observer.gpu(context.service.guarded.gpu())
    observer.decoding(context.service.cloning.decoder.pool)
    observer.buffered(context.service.lifecycle.loop.buffered_bytes)
    return Response(generate_latest(observer.registry), media_type=CONTENT_TYPE_LATEST)
