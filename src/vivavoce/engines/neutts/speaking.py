"""One utterance: its parts, each a row of the backbone and a stream of the codec. No threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from vivavoce.engines.neutts.backbone import Codes, Emitted, Prompt, TokenSampling
from vivavoce.engines.neutts.codec.stream import SAMPLE_RATE_HZ, CodecStream, Schedule
from vivavoce.engines.neutts.guards import (
    MIN_CODES,
    TRIES,
    LoopGuard,
    next_seed,
)
from vivavoce.engines.neutts.schedule import RowState, dry_at
from vivavoce.engines.neutts.slices import CODE_S, Demand, Place, demands
from vivavoce.engines.neutts.watermark import WatermarkStream
from vivavoce.engines.silence import SILENCE_PEAK, SilenceGuard
from vivavoce.errors import EngineError, RunawayOutput, VivavoceError
from vivavoce.types import FinishReason, Samples, Utterance

SILENCE = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Part:
    """What one row speaks: its prompt and the most codes it may take."""

    prompt: Prompt
    max_codes: int


@dataclass(slots=True)
class Take:
    """One part being spoken. ``row`` is None before it is admitted and after its last code.

    ``opened``: some of it was decoded already.
    """

    part: Part
    stream: CodecStream
    opened: bool = False
    row: int | None = None
    codes: int = 0
    tries: int = 1
    ended: bool = False
    loop: LoopGuard = field(default_factory=LoopGuard)


@dataclass(slots=True)
class Speaking:
    """An admitted utterance. ``takes`` are in order: the first is heard, the last makes codes.

    ``sound`` waits to be handed out, ``unmarked`` for its watermark where there is to be one;
    ``recorded``, where it is a list, gets every code. ``codes_left`` are for all parts together.
    """

    number: int
    utterance: Utterance
    sampling: TokenSampling
    guarded: bool
    parts: deque[Part]
    codes_left: int
    new_stream: Callable[[], CodecStream]
    watermark: WatermarkStream | None = None
    takes: deque[Take] = field(default_factory=deque)
    admitted_s: float = field(default_factory=time.monotonic)
    plays_until_s: float = 0.0
    heard: bool = False
    ended: FinishReason | None = None
    error: VivavoceError | None = None
    sound: list[Samples] = field(default_factory=list)
    unmarked: list[Samples] = field(default_factory=list)
    marking: bool = False
    stages_ms: dict[str, float] = field(default_factory=dict)
    recorded: list[int] | None = None
    first_token_s: float | None = None
    _untold_tokens: int = 0
    _silence: SilenceGuard = field(default_factory=lambda: SilenceGuard(SAMPLE_RATE_HZ))

    @property
    def maker(self) -> Take | None:
        """The take that makes codes or waits for a row."""
        take = self.takes[-1] if self.takes else None
        return None if take is None or take.ended else take

    @property
    def current(self) -> Take | None:
        """The take whose sound comes next."""
        while len(self.takes) > 1 and self.takes[0].stream.done:
            self.takes.popleft()
        return self.takes[0] if self.takes else None

    @property
    def over(self) -> bool:
        """All was spoken and decoded; what is left in ``sound`` is the last of it."""
        if self.error is not None:
            return True
        unfinished = self.parts or self.unmarked or self.marking
        return not unfinished and all(take.stream.done for take in self.takes)

    def wants_row(self) -> bool:
        """Whether its next part can be admitted to the backbone; begins that part."""
        if self.error is not None:
            return False
        if self.parts and self.codes_left <= 0:
            self.parts.clear()
            self.ended = self.ended or "length"
        if self.maker is None and self.parts:
            self.takes.append(Take(self.parts.popleft(), self.new_stream()))
        maker = self.maker
        return maker is not None and maker.row is None

    def reading(self) -> bool:
        """Whether its prompt is being read: it has a row, and no code yet."""
        maker = self.maker
        return maker is not None and maker.row is not None and maker.codes == 0

    def max_codes(self) -> int:
        """The most codes its next row may make."""
        maker = self.maker
        return self.codes_left if maker is None else min(maker.part.max_codes, self.codes_left)

    def next_sampling(self) -> TokenSampling:
        """How the next row draws: a second try has another seed."""
        maker = self.maker
        tries = 1 if maker is None else maker.tries
        if tries == 1:
            return self.sampling
        return replace(self.sampling, seed=next_seed(self.sampling.seed, tries - 1))

    def take(self, emitted: Emitted) -> None:
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
        self.parts.clear()
        self.ended = self.ended or "length"
        if maker is not None:
            self._close(maker)

    def looping(self, codes: Codes) -> bool:
        """Whether its latest codes go in circles."""
        maker = self.maker
        return self.guarded and maker is not None and maker.loop.said(codes)

    def listen(self, samples: Samples, now_s: float) -> bool:
        """Take decoded sound; True where it has been silent for too long."""
        if not np.isfinite(samples).all():
            self.fail(EngineError("The codec gave numbers that are not finite."))
            return False
        if not len(samples):
            return False
        waiting = self.sound if self.watermark is None else self.unmarked
        waiting.append(np.clip(samples, -1.0, 1.0))
        audible = len(samples) if self.heard else _audible(samples)
        if audible:
            start_s = max(self.plays_until_s, now_s, self.utterance.deadline_s)
            self.plays_until_s = start_s + audible / SAMPLE_RATE_HZ
            self.heard = True
        return self.guarded and self._silence.heard(samples)

    def marked(self, samples: Samples) -> None:
        """Take sound with its watermark."""
        self.marking = False
        self.sound.append(np.clip(samples, -1.0, 1.0))

    def fail(self, error: VivavoceError) -> None:
        """It ends with an error; what waits is dropped."""
        self.error, self.ended = self.error or error, "error"
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
        until_s = self.utterance.deadline_s
        dry_s = self.plays_until_s if self.heard else dry_at(until_s, self.admitted_s)
        return RowState(
            self.number,
            dry_s,
            take.stream.pending - behind,
            take.stream.next_chunk,
            self.heard,
            take.ended,
        )

    def demands(self, schedule: Schedule, steps: int) -> list[Demand]:
        """What a listener needs of the take that makes codes, until ``steps`` more are made."""
        maker = self.maker
        if maker is None or not self.heard or maker.row is None or not maker.codes:
            return []
        before = sum(take.stream.pending for take in self.takes if take is not maker)
        place = Place(maker.stream.pending, maker.stream.pieces, self.plays_until_s)
        return demands(replace(place, dry_s=place.dry_s + before * CODE_S), schedule, steps)

    def next_sound(self) -> Samples:
        """The sound that waits longest; nothing where none does."""
        return self.sound.pop(0) if self.sound else SILENCE

    def spent(self, stage: str, seconds: float) -> None:
        """Note time; told with the next sound."""
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + seconds * 1000

    def tell_stages(self) -> dict[str, float]:
        """The noted times, which begin anew."""
        told, self.stages_ms = self.stages_ms, {}
        return told

    def tell_tokens(self) -> int:
        """How many codes were made since this was last asked."""
        told, self._untold_tokens = self._untold_tokens, 0
        return told

    def _speak(self, maker: Take, codes: Codes) -> None:
        if self.first_token_s is None:
            self.first_token_s = time.monotonic()
        self._untold_tokens += len(codes)
        maker.stream.push(codes)
        maker.codes += len(codes)
        self.codes_left -= len(codes)
        if self.recorded is not None:
            self.recorded.extend(codes.tolist())

    def _row_ended(self, maker: Take, reason: FinishReason) -> None:
        if reason == "stop" and maker.codes < MIN_CODES and not maker.opened:
            self._again(maker)
            return
        self._close(maker)
        if reason != "stop":
            self.parts.clear()
            self.ended = self.ended or reason

    def _again(self, maker: Take) -> None:
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
        maker.loop = LoopGuard()

    def _close(self, maker: Take) -> None:
        maker.ended = True
        rest = maker.stream.end()
        if len(rest):
            self.listen(rest, time.monotonic())


def _audible(samples: Samples) -> int:
    """Samples from the first audible one on: silence before the first word is trimmed."""
    loud = np.flatnonzero(np.abs(samples) >= SILENCE_PEAK)
    return len(samples) - int(loud[0]) if len(loud) else 0
