"""A whole run in figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vivavoce.bench.measures import Measure
from vivavoce.bench.stats import Distribution


@dataclass(frozen=True, slots=True)
class BufferSummary:
    """Playback over all good streams with a buffer of ``buffer_ms``."""

    buffer_ms: float
    streams_with_underrun: int
    underruns: int
    stalled_ms: float


@dataclass(frozen=True, slots=True)
class Rejections:
    """Answers with status 429: how many, how soon, and when they said to try again."""

    count: int
    with_retry_after: int
    answered_ms: Distribution | None
    retry_after_ms: Distribution | None


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. Latencies are over good requests only, and count from when each was due.

    ``loop_lag_ms`` is how late this program itself ran: where it is not small, the figures
    describe the client. ``queue_ms``, ``inference_ms`` and ``network_ms`` are the parts of the time
    from sending to the first byte.
    """

    requests: int
    ok: int
    errors: dict[str, int]
    rejections: Rejections
    wall_s: float
    audio_s: float
    audio_s_per_s: float
    requests_per_s: float
    first_byte_ms: Distribution | None
    first_playable_ms: Distribution | None
    audible_ms: Distribution | None
    total_ms: Distribution | None
    chunk_gap_ms: Distribution | None
    rtf: Distribution | None
    schedule_lag_ms: Distribution | None
    loop_lag_ms: Distribution | None
    playback: tuple[BufferSummary, ...]
    queue_ms: Distribution | None = None
    inference_ms: Distribution | None = None
    network_ms: Distribution | None = None

    @property
    def clean(self) -> bool:
        """Whether every request was good and none stalled with the first of the buffers."""
        stalled = self.playback[0].underruns if self.playback else 0
        return 0 < self.requests == self.ok and stalled == 0


def summarize(
    measures: Sequence[Measure], wall_s: float, loop_lags_ms: Sequence[float] = ()
) -> Summary:
    """The figures of one run over all its requests."""
    good = [measure for measure in measures if measure.ok]
    parts = [measure.breakdown for measure in good if measure.breakdown is not None]
    audio_s = math.fsum(measure.audio_s for measure in good)
    return Summary(
        requests=len(measures),
        ok=len(good),
        errors=dict(Counter(m.failure.code for m in measures if m.failure).most_common()),
        rejections=_rejections(measures),
        wall_s=wall_s,
        audio_s=audio_s,
        audio_s_per_s=audio_s / wall_s if wall_s > 0 else 0.0,
        requests_per_s=len(measures) / wall_s if wall_s > 0 else 0.0,
        first_byte_ms=Distribution.of(m.first_byte_ms for m in good),
        first_playable_ms=Distribution.of(m.first_playable_ms for m in good),
        audible_ms=Distribution.of(m.audible_ms for m in good),
        total_ms=Distribution.of(m.total_ms for m in good),
        chunk_gap_ms=Distribution.of(gap for m in good for gap in m.gaps_ms),
        rtf=Distribution.of(m.rtf for m in good),
        schedule_lag_ms=Distribution.of(m.lag_ms for m in measures),
        loop_lag_ms=Distribution.of(loop_lags_ms),
        playback=_playback(good),
        queue_ms=Distribution.of(part.queue_ms for part in parts),
        inference_ms=Distribution.of(part.inference_ms for part in parts),
        network_ms=Distribution.of(part.network_ms for part in parts),
    )


def _rejections(measures: Sequence[Measure]) -> Rejections:
    refused = [m for m in measures if m.failure and m.failure.status == 429]
    after_ms = [m.failure.retry_after_ms for m in refused if m.failure]
    return Rejections(
        count=len(refused),
        with_retry_after=sum(value is not None for value in after_ms),
        answered_ms=Distribution.of(m.total_ms - m.lag_ms for m in refused),
        retry_after_ms=Distribution.of(after_ms),
    )


def _playback(good: Sequence[Measure]) -> tuple[BufferSummary, ...]:
    rows = zip(*(measure.playback for measure in good), strict=True)
    return tuple(
        BufferSummary(
            buffer_ms=row[0].buffer_ms,
            streams_with_underrun=sum(play.underruns > 0 for play in row),
            underruns=sum(play.underruns for play in row),
            stalled_ms=math.fsum(play.stalled_ms for play in row),
        )
        for row in rows
    )
