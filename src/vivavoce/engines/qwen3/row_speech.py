"""One utterance in its row: its text as it comes, its frames, and when it ends. No tensors.

The silence that Qwen3-TTS often begins with (a frame of it is 80 ms of a caller's wait) is left
out: the first sound that is handed out is audible.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.clock import PlaybackClock
from vivavoce.engines.qwen3.options import RequestOptions
from vivavoce.engines.qwen3.pace import ChunkRamp
from vivavoce.engines.qwen3.tokenizer import IncrementalTokenizer, TextTokenizer
from vivavoce.engines.utterance import LoopGuard, SilenceGuard, UtteranceState
from vivavoce.errors import VivavoceError
from vivavoce.text.duration import max_duration_s
from vivavoce.text.style import style_room
from vivavoce.types import Samples, Utterance

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
NO_SOUND = np.zeros(0, np.float32)

FrameCodes = NDArray[np.int64]
"""The codes of one frame [16]."""

FRAME_S = 0.08
BASE_S = 3.0
TOKEN_S = 1.0
"""Ordinary speech takes 0.2 to 0.35 s a token, spelt letters and digits up to 0.5 s."""

LOOP_FRAMES = 50
LOOP_PERIODS = 25
LOOP_SHARE = 0.95


def frame_budget(
    text: str, tokens: int, max_audio_s: float | None = None, instructions: str | None = None
) -> int:
    """The most frames that ``text`` (normalized, ``tokens`` long) may take, at least one.

    The smallest of what its tokens and its syllables, spoken as ``instructions`` say, and the
    caller's ``max_audio_s`` allow.
    """
    allowed_s = min(BASE_S + TOKEN_S * tokens, max_duration_s(text)) * style_room(instructions)
    if max_audio_s is not None:
        allowed_s = min(allowed_s, max_audio_s)
    return max(1, int(allowed_s / FRAME_S + 1e-6))


def loop_guard() -> LoopGuard:
    """For the first codes of frames of 4 s that come round again and again."""
    return LoopGuard(LOOP_FRAMES, LOOP_PERIODS, LOOP_SHARE)


AUDIBLE_PEAK = 0.001
"""-60 dBFS. Speech and the breath before it are 20 dB louder and more; a sample so low is 33 steps
of 16 bits, and the trimmer behind the engines takes ten times the power for silence, too."""


@dataclass(slots=True)
class Onset:
    """Drops whole frames from an utterance's beginning until one has a sample of AUDIBLE_PEAK.

    It looks at frames, however many come at a time, so that the same ones go in any chunks.
    ``dropped_frames`` are those that went; ``passed`` says that an audible one has come.
    """

    dropped_frames: int = 0
    passed: bool = False

    def audible(self, samples: Samples) -> Samples:
        """Take the next sound, float32 (n,), of whole frames; what is left of it, (m,)."""
        if self.passed:
            return samples
        loud = np.abs(samples) >= AUDIBLE_PEAK
        self.passed = bool(loud.any())
        silent = (int(loud.argmax()) if self.passed else len(samples)) // FRAME_SAMPLES
        self.dropped_frames += silent
        return samples[silent * FRAME_SAMPLES :]


@dataclass(slots=True)
class RowSpeech(UtteranceState):
    """What the host knows of a row. ``waiting`` are frames that are not yet sound.

    ``sound`` holds what arrived in this step; ``traveling`` chunks are being decoded, and
    ``sent`` frames were given to the codec so far: when those have been played, ``clock`` says.
    """

    utterance: Utterance
    request: RequestOptions
    ids: list[int] = field(default_factory=list)
    text: str = ""
    closed: bool = True
    frames: int = 0
    waiting: list[FrameCodes] = field(default_factory=list)
    sent: int = 0
    traveling: int = 0
    ramp: ChunkRamp = field(default_factory=ChunkRamp)
    _onset: Onset = field(default_factory=Onset)
    _coming: IncrementalTokenizer | None = None
    _loop: LoopGuard = field(default_factory=loop_guard)
    _budget: int = 0

    def __post_init__(self) -> None:
        """The codec is fed ahead of playback, so the clock need not wait for what is late."""
        self.clock = PlaybackClock(self.utterance.deadline_s, can_wait=False)
        self.clock.push(self.sent * FRAME_S, 0.0)

    @classmethod
    def start(
        cls,
        utterance: Utterance,
        request: RequestOptions,
        tokenizer: TextTokenizer,
        *,
        guarded: bool,
    ) -> RowSpeech:
        """Of an admitted utterance. Without ``text_open`` its text is whole."""
        speech = cls(
            utterance,
            request,
            guarded=guarded and request.guards,
            silence=SilenceGuard(SAMPLE_RATE_HZ),
        )
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
        if self.request.max_frames is not None:
            return self.request.max_frames
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

    def push_frame(self, codes: FrameCodes) -> None:
        """One more frame; may end it as too long or as a loop."""
        self.count_tokens(1)
        self.frames += 1
        self.waiting.append(codes)
        if self.recorded is not None:
            self.recorded.append(codes)
        if self.closed and self.frames >= self.budget:
            self.end("length")
        if self.guarded and self._loop.push((int(codes[0]),)):
            self.end("length")

    def push_audio(self, samples: Samples) -> None:
        """Its next sound, whose silence at the beginning is left out; may end it as silent."""
        if not self.is_sound(samples):
            return
        audible = self._onset.audible(samples)
        self.clock.drop((len(samples) - len(audible)) / SAMPLE_RATE_HZ)
        if len(audible):
            self.sound.append(audible)
        else:  # Nobody has heard anything yet, so the next chunk is a first one again.
            self.ramp = ChunkRamp(self.ramp.sizes)
        if self.guarded and self.silence.push(samples):
            self.end("length")

    def fail(self, error: VivavoceError) -> None:
        """It ends with an error; what waits is dropped."""
        UtteranceState.fail(self, error)
        self.waiting.clear()

    def chunk(self, *, stalled: bool) -> int:
        """How many of the waiting frames become sound now."""
        return self.ramp.take(len(self.waiting), flush=stalled, last=self.ended is not None)

    def pop(self, frames: int) -> FrameCodes:
        """The first waiting frames [frames, 16]."""
        taken, self.waiting = self.waiting[:frames], self.waiting[frames:]
        self.sent += frames
        self.clock.push(frames * FRAME_S, 0.0)
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

    def pop_sound(self) -> Samples:
        """All that arrived in this step."""
        sound, self.sound = self.sound, []
        return sound[0] if len(sound) == 1 else np.concatenate([NO_SOUND, *sound])

    def _settle(self, text: str, ids: list[int]) -> list[int]:
        self.text += text
        self.ids += ids
        self._budget = 0
        return ids
