"""What one request showed, as its caller heard it: when it became audible, where it stalled, and
where the time went, in the server and on the way.

Both classes work on arrival times alone (seconds of any steady clock) and know no network. The
listener is modelled so: playback starts ``buffer_ms`` after the first chunk arrives and then runs
in real time; a chunk that arrives after everything before it was played leaves a gap, and playback
goes on the moment it is there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_METRIC = re.compile(r"([a-z]+)\s*;\s*dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """What the server said, in milliseconds since it had the request.

    ``first_ms`` and ``total_ms`` (all sound made) hold the queue; ``playback_ms`` came after
    ``total_ms``. None is what was not waited for.
    """

    queue_ms: float
    first_ms: float
    total_ms: float | None = None
    playback_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The parts of the wait for an answer; their sum is the wait.

    ``network_ms`` is what the server did not count: the connection, HTTP, reading and writing.
    """

    queue_ms: float
    inference_ms: float
    playback_ms: float
    network_ms: float


def server_times(header: str | None) -> ServerTimes | None:
    """The value of ``Server-Timing`` (W3C), or None where it does not hold our figures."""
    named = dict(_METRIC.findall(header or ""))
    try:
        told = {name: float(value) for name, value in named.items()}
    except ValueError:
        return None
    if "queue" not in told or "first" not in told:
        return None
    return ServerTimes(told["queue"], told["first"], told.get("total"), told.get("playback"))


def break_down(waited_ms: float, server: ServerTimes) -> Breakdown:
    """The parts of a wait of ``waited_ms`` since the request was sent."""
    made_ms = server.first_ms if server.total_ms is None else server.total_ms
    playback_ms = server.playback_ms or 0.0
    return Breakdown(
        queue_ms=server.queue_ms,
        inference_ms=max(0.0, made_ms - server.queue_ms),
        playback_ms=playback_ms,
        network_ms=max(0.0, waited_ms - made_ms - playback_ms),
    )


MIN_STALL_MS = 1.0
"""Gaps under this are neither counted nor summed: no sound card works that finely."""

AUDIBLE_DBFS = -50.0
"""What a sample must exceed to be the first audible one."""

INT16_FULL_SCALE = 32_768.0
FLOAT_FULL_SCALE = 1.0


class PlaybackClock:
    """Plays one stream against the clock and counts where it runs dry."""

    def __init__(self, sample_rate_hz: int, buffer_ms: float = 0.0) -> None:
        self.buffer_ms = buffer_ms
        self.underruns = 0
        self.stalled_ms = 0.0
        self._sample_rate_hz = sample_rate_hz
        self._dry_at_s: float | None = None

    @property
    def ends_at_s(self) -> float | None:
        """When all that has arrived will have been played; None before the first chunk."""
        return self._dry_at_s

    def feed(self, arrived_s: float, samples: int) -> float:
        """Take a chunk of ``samples``; returns when its first sample is played."""
        starts_s = self._start_of(arrived_s)
        self._dry_at_s = starts_s + samples / self._sample_rate_hz
        return starts_s

    def _start_of(self, arrived_s: float) -> float:
        if self._dry_at_s is None:
            return arrived_s + self.buffer_ms / 1000
        if arrived_s <= self._dry_at_s:
            return self._dry_at_s
        stalled_ms = (arrived_s - self._dry_at_s) * 1000
        if stalled_ms >= MIN_STALL_MS:
            self.underruns += 1
            self.stalled_ms += stalled_ms
        return arrived_s


class AudibleDetector:
    """Finds when the first sample above a threshold is heard by a listener without a buffer.

    Silence in front of the speech has to be played first, and so does the rest of its own chunk:
    both count. Stalls before the first sound count as well.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        threshold_dbfs: float = AUDIBLE_DBFS,
        full_scale: float = INT16_FULL_SCALE,
    ) -> None:
        """``full_scale`` is the loudest sample: 32,768 of int16, 1.0 of float32."""
        self.audible_at_s: float | None = None
        self._sample_rate_hz = sample_rate_hz
        self._clock = PlaybackClock(sample_rate_hz)
        self._threshold = 10 ** (threshold_dbfs / 20) * full_scale

    def feed(self, arrived_s: float, samples: NDArray[np.int16] | NDArray[np.float32]) -> None:
        """Take a chunk, shape (n,); does nothing once something was audible."""
        if self.audible_at_s is not None:
            return
        starts_s = self._clock.feed(arrived_s, len(samples))
        # Wider, because the absolute value of the lowest int16 is not an int16.
        loud = np.abs(samples.astype(np.float64)) > self._threshold
        if loud.any():
            self.audible_at_s = starts_s + int(loud.argmax()) / self._sample_rate_hz


@dataclass(frozen=True, slots=True)
class Playback:
    """How a stream would have played with a buffer of ``buffer_ms``."""

    buffer_ms: float
    underruns: int
    stalled_ms: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed: a stable code, the HTTP status if any, when to try again if said."""

    code: str
    status: int | None = None
    retry_after_ms: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """One request. Times are milliseconds since it was **due**, so waiting to be sent counts.

    ``lag_ms`` is that wait. ``first_byte_ms`` is the first byte of the body, ``first_playable_ms``
    the first whole sample, ``audible_ms`` when a listener hears the first sound. ``work_s`` is the
    time from sending to the last sample. ``breakdown`` parts the time from sending to the first
    byte, where the server tells of it.
    """

    characters: int
    lag_ms: float
    total_ms: float
    failure: Failure | None = None
    first_byte_ms: float | None = None
    first_playable_ms: float | None = None
    audible_ms: float | None = None
    audio_s: float = 0.0
    work_s: float = 0.0
    sample_rate_hz: int | None = None
    chunks: int = 0
    gaps_ms: tuple[float, ...] = ()
    playback: tuple[Playback, ...] = ()
    breakdown: Breakdown | None = None

    @property
    def ok(self) -> bool:
        """Whether the request brought its whole sound."""
        return self.failure is None

    @property
    def rtf(self) -> float | None:
        """Seconds of work per second of sound."""
        return self.work_s / self.audio_s if self.ok and self.audio_s > 0 else None


@dataclass(frozen=True, slots=True)
class Listening:
    """How measures are taken: buffers to play against, and from what level sound is audible."""

    buffers_ms: tuple[float, ...] = (0.0,)
    threshold_dbfs: float = AUDIBLE_DBFS


class Recorder:
    """Takes the events of one request, in order, and makes its Measure.

    All times are seconds of one steady clock. ``due_s`` is when the request should be sent.
    """

    def __init__(self, text: str, due_s: float, listening: Listening) -> None:
        self._characters = len(text)
        self._due_s = due_s
        self._sent_s = due_s
        self._listening = listening
        self._clocks: list[PlaybackClock] = []
        self._detector: AudibleDetector | None = None
        self._sample_rate_hz = 0
        self._first_byte_s: float | None = None
        self._arrivals_s: list[float] = []
        self._samples = 0
        self._half = b""
        self._server: ServerTimes | None = None

    @property
    def plays_until_s(self) -> float | None:
        """When a listener with the first of the buffers has heard everything that arrived."""
        return self._clocks[0].ends_at_s if self._clocks else None

    def sent(self, at_s: float) -> None:
        """The request goes out."""
        self._sent_s = at_s

    def first_byte(self, at_s: float) -> None:
        """Bytes of the body are there; later calls change nothing."""
        if self._first_byte_s is None:
            self._first_byte_s = at_s

    def told(self, server: ServerTimes | None) -> None:
        """What the server said about the time to its first sound."""
        self._server = server

    def format(self, sample_rate_hz: int) -> None:
        """The sample rate of what follows; needed before the first ``pcm``."""
        self._sample_rate_hz = sample_rate_hz
        listening = self._listening
        self._clocks = [PlaybackClock(sample_rate_hz, ms) for ms in listening.buffers_ms]
        self._detector = AudibleDetector(sample_rate_hz, listening.threshold_dbfs)

    def pcm(self, at_s: float, data: bytes) -> None:
        """Sound has arrived: mono s16le, cut anywhere, even inside a sample."""
        self.first_byte(at_s)
        if self._half:
            data = self._half + data
        whole = len(data) & ~1
        self._half = data[whole:]
        if not whole or self._detector is None:
            return
        samples = np.frombuffer(data, dtype="<i2", count=whole // 2)
        self._arrivals_s.append(at_s)
        self._samples += len(samples)
        self._detector.feed(at_s, samples)
        for clock in self._clocks:
            clock.feed(at_s, len(samples))

    def finish(self, at_s: float, failure: Failure | None = None) -> Measure:
        """The end, good or bad. An end without sound or inside a sample is a failure."""
        arrivals = self._arrivals_s
        last_s = arrivals[-1] if arrivals else at_s
        return Measure(
            characters=self._characters,
            lag_ms=(self._sent_s - self._due_s) * 1000,
            total_ms=(at_s - self._due_s) * 1000,
            failure=failure or self._own_failure(),
            first_byte_ms=self._since_due_ms(self._first_byte_s),
            first_playable_ms=self._since_due_ms(arrivals[0] if arrivals else None),
            audible_ms=self._since_due_ms(self._audible_at_s()),
            audio_s=self._samples / self._sample_rate_hz if self._sample_rate_hz else 0.0,
            work_s=last_s - self._sent_s,
            sample_rate_hz=self._sample_rate_hz or None,
            chunks=len(arrivals),
            gaps_ms=_gaps_ms(arrivals),
            playback=tuple(Playback(c.buffer_ms, c.underruns, c.stalled_ms) for c in self._clocks),
            breakdown=self._breakdown(),
        )

    def _breakdown(self) -> Breakdown | None:
        if self._server is None or self._first_byte_s is None:
            return None
        return break_down((self._first_byte_s - self._sent_s) * 1000, self._server)

    def _audible_at_s(self) -> float | None:
        return None if self._detector is None else self._detector.audible_at_s

    def _own_failure(self) -> Failure | None:
        if self._half:
            return Failure("truncated", message="The sound ends inside a sample.")
        if not self._samples:
            return Failure("no_audio", message="The answer holds no sound.")
        return None

    def _since_due_ms(self, at_s: float | None) -> float | None:
        return None if at_s is None else (at_s - self._due_s) * 1000


def _gaps_ms(arrivals_s: Sequence[float]) -> tuple[float, ...]:
    pairs = itertools.pairwise(arrivals_s)
    return tuple((later - earlier) * 1000 for earlier, later in pairs)
