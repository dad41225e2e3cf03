"""One utterance: its segments, each a row of the backbone and a stream of the codec. No threads.

Whatever a guard ends in the middle ends as "length", not "stop".
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from vivavoce.engines.clock import PlaybackClock
from vivavoce.engines.neutts.backbone import Codes, Emitted, Prompt, TokenSampling
from vivavoce.engines.neutts.codec.stream import (
    CODES_PER_S,
    SAMPLE_RATE_HZ,
    CodecStream,
    Schedule,
)
from vivavoce.engines.neutts.schedule import (
    CODE_S,
    Demand,
    ListenerState,
    RowState,
    demands,
    underrun_at,
)
from vivavoce.engines.neutts.watermark import WatermarkStream
from vivavoce.engines.utterance import LoopGuard, UtteranceState
from vivavoce.errors import EngineError, RunawayOutput, VivavoceError
from vivavoce.text.duration import expected_duration_s, max_duration_s
from vivavoce.types import FinishReason, Samples, Utterance

SILENCE = np.zeros(0, np.float32)

MIN_CODES = 5
"""An end before so many codes (0.1 s) is no speech: it is tried again with another seed."""

TRIES = 4
LOOP_CODES = 150
LOOP_PERIODS = 50
LOOP_SHARE = 0.95
LOOK_EVERY = 25
ROOM = 1.5
"""How much slower than an average voice a clause may be read and still fit the context."""


def expected_codes(text: str) -> int:
    """Codes that a slow reading of a normalized ``text`` takes."""
    return int(expected_duration_s(text) * ROOM * CODES_PER_S) + CODES_PER_S


def code_budget(text: str, max_audio_s: float | None = None) -> int:
    """The most codes that a normalized ``text`` may take, at least one."""
    allowed_s = max_duration_s(text)
    if max_audio_s is not None:
        allowed_s = min(allowed_s, max_audio_s)
    return max(1, int(allowed_s * CODES_PER_S + 1e-6))


def next_seed(seed: int, attempt: int) -> int:
    """Another seed, the same one for the same ``attempt``."""
    return (seed + attempt * 0x9E3779B97F4A7C15) % 2**63


def loop_guard() -> LoopGuard:
    """For codes of 3 s that come round again and again, in periods of up to 1 s."""
    return LoopGuard(LOOP_CODES, LOOP_PERIODS, LOOP_SHARE, LOOK_EVERY)


@dataclass(frozen=True, slots=True)
class Segment:
    """What one row speaks: its prompt and the most codes it may take."""

    prompt: Prompt
    max_codes: int


@dataclass(slots=True)
class SegmentState:
    """One segment being spoken. ``row`` is None before it is admitted and after its last code.

    ``opened``: some of it was decoded already.
    """

    segment: Segment
    stream: CodecStream
    opened: bool = False
    row: int | None = None
    codes: int = 0
    tries: int = 1
    ended: bool = False
    loop: LoopGuard = field(default_factory=loop_guard)


@dataclass(slots=True)
class NeuTTSUtterance(UtteranceState):
    """An admitted utterance. ``takes`` are in order: the first is heard, the last makes codes.

    ``unmarked`` sound waits for its watermark where there is to be one. ``codes_left`` are for all
    segments together.
    """

    number: int
    utterance: Utterance
    sampling: TokenSampling
    segments: deque[Segment]
    codes_left: int
    new_stream: Callable[[], CodecStream]
    watermark: WatermarkStream | None = None
    takes: deque[SegmentState] = field(default_factory=deque)
    admitted_s: float = field(default_factory=time.monotonic)
    unmarked: list[Samples] = field(default_factory=list)
    marking: bool = False

    def __post_init__(self) -> None:
        self.clock = PlaybackClock(self.utterance.deadline_s)

    @property
    def maker(self) -> SegmentState | None:
        """The take that makes codes or waits for a row."""
        take = self.takes[-1] if self.takes else None
        return None if take is None or take.ended else take

    @property
    def current(self) -> SegmentState | None:
        """The take whose sound comes next."""
        while len(self.takes) > 1 and self.takes[0].stream.done:
            self.takes.popleft()
        return self.takes[0] if self.takes else None

    @property
    def over(self) -> bool:
        """All was spoken and decoded; what is left in ``sound`` is the last of it."""
        if self.error is not None:
            return True
        unfinished = self.segments or self.unmarked or self.marking
        return not unfinished and all(take.stream.done for take in self.takes)

    def wants_row(self) -> bool:
        """Whether its next part can be admitted to the backbone; begins that part."""
        if self.error is not None:
            return False
        if self.segments and self.codes_left <= 0:
            self.segments.clear()
            self.end("length")
        if self.maker is None and self.segments:
            self.takes.append(SegmentState(self.segments.popleft(), self.new_stream()))
        maker = self.maker
        return maker is not None and maker.row is None

    def reading(self) -> bool:
        """Whether its prompt is being read: it has a row, and no code yet."""
        maker = self.maker
        return maker is not None and maker.row is not None and maker.codes == 0

    def max_codes(self) -> int:
        """The most codes its next row may make."""
        maker = self.maker
        return self.codes_left if maker is None else min(maker.segment.max_codes, self.codes_left)

    def next_sampling(self) -> TokenSampling:
        """How the next row draws: a second try has another seed."""
        maker = self.maker
        tries = 1 if maker is None else maker.tries
        if tries == 1:
            return self.sampling
        return replace(self.sampling, seed=next_seed(self.sampling.seed, tries - 1))

    def push_codes(self, emitted: Emitted) -> None:
        """Codes of its row, and perhaps the end of them."""
        maker = self.maker
        if maker is None:
            return
        if len(emitted.codes):
            self._speak(maker, emitted.codes)
        if emitted.last:
            maker.row = None
            self._row_ended(maker, emitted.reason or "stop")

    def stop_row(self) -> int | None:
        """Take its row away (a guard ended it, or it is released); None where it has none."""
        maker = self.maker
        row = None if maker is None else maker.row
        if maker is not None:
            maker.row = None
        return row

    def cut(self) -> None:
        """A guard ends it: what was made is spoken, nothing more is made."""
        maker = self.maker
        self.segments.clear()
        self.end("length")
        if maker is not None:
            self._close(maker)

    def is_looping(self, codes: Codes) -> bool:
        """Whether its latest codes go in circles."""
        maker = self.maker
        return self.guarded and maker is not None and maker.loop.push(codes.tolist())

    def push_audio(self, samples: Samples, now_s: float) -> bool:
        """Take decoded sound; True where it has been silent for too long."""
        if not len(samples) or not self.is_sound(samples):
            return False
        waiting = self.sound if self.watermark is None else self.unmarked
        waiting.append(np.clip(samples, -1.0, 1.0))
        self.clock.push_speech(samples, SAMPLE_RATE_HZ, now_s)
        return self.guarded and self.silence.push(samples)

    def marked(self, samples: Samples) -> None:
        """Take sound with its watermark."""
        self.marking = False
        self.sound.append(np.clip(samples, -1.0, 1.0))

    def fail(self, error: VivavoceError) -> None:
        """It ends with an error; what waits is dropped."""
        UtteranceState.fail(self, error)
        self.sound.clear()
        self.unmarked.clear()

    def refuse_cut(self) -> None:
        """Reaching a length of its own is an end; a guard's cut before it is none."""
        own = self.guarded and "max_codes" in self.utterance.options
        if own and self.ended == "length" and self.codes_left > 0:
            self.fail(RunawayOutput("The speech was cut before max_codes was reached."))

    def state(self, lookforward: int) -> RowState | None:
        """For the schedule; None where nothing of it can be decoded."""
        take = self.current
        if take is None or self.error is not None:
            return None
        behind = 0 if take.ended else lookforward
        clock = self.clock
        dry_s = underrun_at(clock.underrun_at_s, self.admitted_s)
        return RowState(
            self.number,
            clock.underrun_at_s if clock.has_audio else dry_s,
            take.stream.pending - behind,
            take.stream.next_chunk,
            clock.has_audio,
            take.ended,
        )

    def demands(self, schedule: Schedule, steps: int) -> list[Demand]:
        """What a listener needs of the take that makes codes, until ``steps`` more are made."""
        maker = self.maker
        if maker is None or not self.clock.has_audio or maker.row is None or not maker.codes:
            return []
        before = sum(take.stream.pending for take in self.takes if take is not maker)
        dry_s = self.clock.underrun_at_s + before * CODE_S
        listener = ListenerState(maker.stream.pending, maker.stream.pieces, dry_s)
        return demands(listener, schedule, steps)

    def next_sound(self) -> Samples:
        """The sound that waits longest; nothing where none does."""
        return self.sound.pop(0) if self.sound else SILENCE

    def _speak(self, maker: SegmentState, codes: Codes) -> None:
        self.count_tokens(len(codes))
        maker.stream.push(codes)
        maker.codes += len(codes)
        self.codes_left -= len(codes)
        if self.recorded is not None:
            self.recorded.extend(codes.tolist())

    def _row_ended(self, maker: SegmentState, reason: FinishReason) -> None:
        if reason == "stop" and maker.codes < MIN_CODES and not maker.opened:
            self._again(maker)
            return
        self._close(maker)
        if reason != "stop":
            self.segments.clear()
            self.end(reason)

    def _again(self, maker: SegmentState) -> None:
        """It ended before it began; without chance a second try would end the same way."""
        if maker.tries >= TRIES or self.sampling.greedy:
            tried = "" if self.sampling.greedy else f" ({maker.tries} tries)"
            self.fail(EngineError(f"The model ended the speech before it began{tried}."))
            return
        if self.recorded is not None and maker.codes:
            del self.recorded[-maker.codes :]
        self.codes_left += maker.codes
        maker.tries += 1
        maker.codes = 0
        maker.stream = self.new_stream()
        maker.loop = loop_guard()

    def _close(self, maker: SegmentState) -> None:
        maker.ended = True
        rest = maker.stream.end()
        if len(rest):
            self.push_audio(rest, time.monotonic())
