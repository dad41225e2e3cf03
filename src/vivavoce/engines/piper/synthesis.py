"""One utterance on its way: phonemes, encoder, then the decoder in growing windows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vivavoce.audio.resample import Resampler
from vivavoce.engines.piper.cut_voice import Margins
from vivavoce.engines.piper.model import Array, VoiceModel, elapsed_ms
from vivavoce.engines.piper.options import SynthesisOptions
from vivavoce.engines.piper.phonemes import phoneme_ids, phonemize
from vivavoce.errors import EngineError
from vivavoce.types import FinishReason, Samples, Span


@dataclass(frozen=True, slots=True)
class DecodeWindow:
    """Frames ``start`` to ``end`` are wanted; the decoder sees ``seen_start`` to ``seen_end``."""

    start: int
    end: int
    seen_start: int
    seen_end: int

    @property
    def margins(self) -> Margins:
        """The context on both sides, in frames."""
        return Margins(self.start - self.seen_start, self.seen_end - self.end)


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How windows grow: from ``first`` frames by ``growth`` up to ``largest``.

    Small windows give early sound, large ones waste less on context. ``context`` frames on each
    side make a window equal to the same stretch of the whole decode. The plan depends on the
    position alone, never on the clock, so that the same seed always gives the same sound.
    """

    first: int
    largest: int
    growth: float
    context: int

    def size(self, index: int) -> int:
        """How many frames window ``index`` covers; at the end of a text it may be half more."""
        if self.first >= self.largest:
            return self.largest
        size = self.first
        for _ in range(index):
            size = max(size + 1, int(size * self.growth)) if self.growth > 1 else size
            if size >= self.largest:
                return self.largest
        return size

    def window(self, index: int, start: int, frames: int) -> DecodeWindow:
        """The window after ``start`` in a text of ``frames`` frames."""
        size = self.size(index)
        # A remainder smaller than half a window joins this one: its context would cost more.
        end = frames if frames - start <= size + size // 2 else start + size
        return DecodeWindow(
            start, end, max(0, start - self.context), min(frames, end + self.context)
        )


FLOW_CHUNK_FRAMES = 192
"""How far the flow runs at once at most: what is done doubles until then."""
MAX_PHONEME_S = 1.5
"""The longest any phoneme or pause may be held, at length 1. At a voice's own scales none comes
near it (0.33 s at most of 150,000); with much noise in the durations one in 250 would be held for
seconds, up to minutes, where the model's duration predictor is beyond what it has learned."""
SILENCE: Samples = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one unit of work made; ``reason`` is set with the last."""

    samples: Samples
    stages_ms: Mapping[str, float]
    reason: FinishReason | None = None

    def followed_by(self, later: StepOutput) -> StepOutput:
        """This piece without sound and the one after it, as one."""
        return StepOutput(later.samples, {**self.stages_ms, **later.stages_ms}, later.reason)


@dataclass(slots=True)
class _Stretch:
    """One stretch between encoder and decoder. ``latent`` is computed up to ``flowed`` frames."""

    prior: Array
    latent: Array
    flowed: int = 0
    spoken: int = 0

    @property
    def frames(self) -> int:
        return int(self.prior.shape[1])


@dataclass(slots=True)
class Synthesis:
    """Makes the sound of one utterance; each ``advance`` is one unit of work.

    Used by one thread at a time. The sound depends on what is given here alone (and on the seed),
    never on when units run.
    """

    model: VoiceModel
    spans: tuple[Span, ...]
    options: SynthesisOptions
    plan: WindowPlan
    resampler: Resampler | None = None
    _rng: np.random.Generator = field(init=False)
    _waiting: list[list[str]] | None = None
    _part: _Stretch | None = None
    _windows: int = 0
    _made_samples: int = 0

    def __post_init__(self) -> None:
        seed = self.options.seed
        self._rng = np.random.Generator(np.random.Philox(seed if seed is None else seed % 2**64))

    def advance(self) -> StepOutput:
        """Phonemes and encoder of the next stretch, its next run of the flow, or its next window.

        Raises EngineError.
        """
        stages_ms: dict[str, float] = {}
        since_s = time.perf_counter()
        if self._waiting is None:
            self._waiting = phonemize(self.spans, self.model.config)
            stages_ms["phonemes"] = elapsed_ms(since_s)
            if not self._waiting:
                return StepOutput(SILENCE, stages_ms, "stop")
            since_s = time.perf_counter()
        samples = SILENCE
        if self._part is None:
            self._part, stage = self._encode(self._waiting.pop(0)), "encoder"
        elif (window := self._window(self._part)).seen_end > self._part.flowed:
            self._flow_to(self._part, window.seen_end)
            stage = "flow"
        else:
            samples, stage = self._decode(self._part, window), "decoder"
        return self._end_of(samples, stages_ms | {stage: elapsed_ms(since_s)})

    def _encode(self, phonemes: list[str]) -> _Stretch:
        ids = phoneme_ids(phonemes, self.model.config.phoneme_ids)
        noise = self._rng.standard_normal((2, len(ids)), np.float32)
        options = self.options
        encoded = self.model.encode(ids, options.scales, options.speaker, noise)
        durations = np.minimum(encoded.durations, self._longest_frames())
        mean = np.repeat(encoded.mean, durations, axis=1)[:, : self._frames_left()]
        if options.scales.noise > 0:
            spread = np.repeat(encoded.log_std, durations, axis=1)[:, : mean.shape[1]]
            # Frame by frame, so that a text cut short by a limit sounds like the whole one.
            drawn = self._rng.standard_normal(mean.shape[::-1], np.float32).T
            mean = mean + drawn * np.exp(spread) * np.float32(options.scales.noise)
        return _Stretch(mean, np.empty(mean.shape, np.float32))

    def _longest_frames(self) -> int:
        """How many frames one phoneme may have."""
        seconds = MAX_PHONEME_S * self.options.scales.length
        return math.ceil(seconds * self.model.config.sample_rate_hz / self.model.hop_samples)

    def _frames_left(self) -> int | None:
        """How many frames can still be heard, with context; None for all."""
        if self.options.max_samples is None:
            return None
        left = max(0, self.options.max_samples - self._made_samples) // self.model.hop_samples
        return left + 1 + self.plan.context + self.model.flow_radius_frames

    def _window(self, part: _Stretch) -> DecodeWindow:
        return self.plan.window(self._windows, part.spoken, part.frames)

    def _decode(self, part: _Stretch, window: DecodeWindow) -> Samples:
        seen = part.latent[:, window.seen_start : window.seen_end]
        sound = self.model.decode(seen, self.options.speaker, window.margins)
        part.spoken = window.end
        self._windows += 1
        if not np.isfinite(sound).all():
            raise EngineError("The voice produced numbers that are not sound.")
        # A copy: a view would keep the context's samples in memory.
        return sound.copy()

    def _flow_to(self, part: _Stretch, wanted: int) -> None:
        """Compute the latent at least up to frame ``wanted``, just that far for early sound."""
        context = self.model.flow_radius_frames
        chunk = min(part.flowed, FLOW_CHUNK_FRAMES)
        end = max(wanted, part.flowed + chunk)
        end = part.frames if part.frames - end <= context else end
        first, last = max(0, part.flowed - context), min(part.frames, end + context)
        margins = Margins(part.flowed - first, last - end)
        seen = part.prior[:, first:last]
        part.latent[:, part.flowed : end] = self.model.flow(seen, self.options.speaker, margins)
        part.flowed = end

    def _end_of(self, samples: Samples, stages_ms: Mapping[str, float]) -> StepOutput:
        """Close the stretch where it is spoken, and the utterance where it ends or is too long."""
        if self._part is not None and self._part.spoken >= self._part.frames:
            self._part = None
        limit = self.options.max_samples
        room = len(samples) if limit is None else max(0, limit - self._made_samples)
        done = self._part is None and not self._waiting
        self._made_samples += min(len(samples), room)
        if len(samples) > room or (not done and limit is not None and room == len(samples) > 0):
            return StepOutput(self._converted(samples[:room], True), stages_ms, "length")
        return StepOutput(self._converted(samples, done), stages_ms, "stop" if done else None)

    def _converted(self, samples: Samples, last: bool) -> Samples:
        if self.resampler is None:
            return samples
        out = self.resampler.push(samples)
        return np.concatenate([out, self.resampler.finish()]) if last else out
