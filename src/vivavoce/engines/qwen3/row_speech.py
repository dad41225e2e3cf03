"""One utterance in its row: its text as it comes, its frames, and when it ends. No tensors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.qwen3.guards import FRAME_S, LoopGuard, frame_budget
from vivavoce.engines.qwen3.manner import Manner
from vivavoce.engines.qwen3.onset import Onset
from vivavoce.engines.qwen3.pace import ChunkRamp
from vivavoce.engines.qwen3.tokenizer import IncrementalTokenizer, TextTokenizer
from vivavoce.engines.silence import SilenceGuard
from vivavoce.errors import EngineError, VivavoceError
from vivavoce.types import FinishReason, Samples, Utterance

SAMPLE_RATE_HZ = 24_000
NO_SOUND = np.zeros(0, np.float32)

FrameCodes = NDArray[np.int64]
"""The codes of one frame [16]."""


@dataclass(slots=True)
class RowSpeech:
    """What the host knows of a row. ``waiting`` are frames that are not yet sound.

    ``sound`` holds what arrived in this step; ``traveling`` chunks are being decoded, and
    ``sent`` frames were given to the codec so far. ``recorded``, where it is a
    list, gets every frame.
    """

    utterance: Utterance
    manner: Manner
    guarded: bool
    ids: list[int] = field(default_factory=list)
    text: str = ""
    closed: bool = True
    frames: int = 0
    waiting: list[FrameCodes] = field(default_factory=list)
    sound: list[Samples] = field(default_factory=list)
    sent: int = 0
    traveling: int = 0
    ramp: ChunkRamp = field(default_factory=ChunkRamp)
    ended: FinishReason | None = None
    error: VivavoceError | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    recorded: list[FrameCodes] | None = None
    first_frame_s: float | None = None
    _told_frames: int = 0
    _onset: Onset = field(default_factory=Onset)
    _coming: IncrementalTokenizer | None = None
    _silence: SilenceGuard = field(default_factory=lambda: SilenceGuard(SAMPLE_RATE_HZ))
    _loop: LoopGuard = field(default_factory=LoopGuard)
    _budget: int = 0

    @classmethod
    def start(
        cls, utterance: Utterance, manner: Manner, tokenizer: TextTokenizer, *, guarded: bool
    ) -> RowSpeech:
        """Of an admitted utterance. Without ``text_open`` its text is whole."""
        speech = cls(utterance, manner, guarded and manner.guards)
        if utterance.text_open:
            speech.closed = False
            speech._coming = IncrementalTokenizer(tokenizer)
            speech.add(utterance.text)
        else:
            speech.text = utterance.text
            speech.ids = tokenizer.encode(utterance.text)
        return speech

    @property
    def budget(self) -> int:
        """The most frames it may have."""
        if self.manner.max_frames is not None:
            return self.manner.max_frames
        if self._budget == 0:
            asked = self.utterance
            self._budget = frame_budget(
                self.text, len(self.ids), asked.max_audio_s, asked.instructions
            )
        return self._budget

    def add(self, text: str) -> list[int]:
        """More text of an open one; the token ids that are settled by it."""
        if self._coming is None or self.closed:
            return []
        return self._settle(text, self._coming.feed(text))

    def close(self) -> list[int]:
        """No more text; the token ids that were held back."""
        if self._coming is None or self.closed:
            return []
        self.closed = True
        return self._settle("", self._coming.close())

    def take(self, codes: FrameCodes) -> None:
        """One more frame; may end it as too long or as a loop."""
        if not self.frames:
            self.first_frame_s = time.monotonic()
        self.frames += 1
        self.waiting.append(codes)
        if self.recorded is not None:
            self.recorded.append(codes)
        if self.closed and self.frames >= self.budget:
            self.end("length")
        if self.guarded and self._loop.said(int(codes[0])):
            self.end("length")

    def heard(self, samples: Samples) -> None:
        """Its next sound, whose silence at the beginning is left out; may end it as silent."""
        if not np.isfinite(samples).all():
            self.fail(EngineError("The codec gave numbers that are not finite."))
            return
        audible = self._onset.audible(samples)
        if len(audible):
            self.sound.append(audible)
        else:  # Nobody has heard anything yet, so the next chunk is a first one again.
            self.ramp = ChunkRamp(self.ramp.sizes)
        if self.guarded and self._silence.heard(samples):
            self.end("length")

    def end(self, reason: FinishReason) -> None:
        """It ends, for the first reason that there was."""
        self.ended = self.ended or reason

    def fail(self, error: VivavoceError) -> None:
        """It ends with an error; what waits is dropped."""
        self.error, self.ended = error, "error"
        self.waiting.clear()

    def chunk(self, *, stalled: bool) -> int:
        """How many of the waiting frames become sound now."""
        return self.ramp.take(len(self.waiting), flush=stalled, last=self.ended is not None)

    def pop(self, frames: int) -> FrameCodes:
        """The first waiting frames [frames, 16]."""
        taken, self.waiting = self.waiting[:frames], self.waiting[frames:]
        self.sent += frames
        return np.stack(taken)

    @property
    def audible(self) -> bool:
        """Whether there is anything to hear of it: until then its sound is waited for."""
        return self._onset.passed or self.error is not None

    @property
    def over(self) -> bool:
        """Whether nothing of it is to come."""
        if self.ended is None:
            return False
        return self.error is not None or not (self.waiting or self.traveling)

    @property
    def dry_s(self) -> float:
        """When playback runs dry of what was given to the codec (monotonic clock)."""
        return self.utterance.deadline_s + (self.sent - self._onset.dropped_frames) * FRAME_S

    def take_sound(self) -> Samples:
        """All that arrived in this step."""
        sound, self.sound = self.sound, []
        return sound[0] if len(sound) == 1 else np.concatenate([NO_SOUND, *sound])

    def spent(self, stage: str, milliseconds: float) -> None:
        """Note time; told with the next sound."""
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + milliseconds

    def tell_stages(self) -> dict[str, float]:
        """The noted times, which begin anew."""
        told, self.stages_ms = self.stages_ms, {}
        return told

    def tell_frames(self) -> int:
        """How many were made since this was last asked."""
        told, self._told_frames = self.frames - self._told_frames, self.frames
        return told

    def _settle(self, text: str, ids: list[int]) -> list[int]:
        self.text += text
        self.ids += ids
        self._budget = 0
        return ids
