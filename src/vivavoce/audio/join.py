"""Clauses joined to one stream: trimmed, with natural pauses, without clicks.

Levels are RMS over blocks of 5 ms counted from the clause's start, so that chunking cannot alter
what is trimmed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

from vivavoce.audio.pcm import concatenate, empty
from vivavoce.types import ClauseEnd, Samples, WordTiming

BLOCK_MS = 5.0
FADE_MS = 4.0
MAX_HELD_S = 10.0
# Once sounding, a block counts as sound until it is this much below the threshold.
HYSTERESIS_DB = 10.0

PAUSES_MS: Mapping[ClauseEnd, float] = MappingProxyType(
    {"clause": 100.0, "sentence": 260.0, "paragraph": 520.0}
)
"""Natural pauses at speed 1, chosen within what readers aloud do."""

TAIL_MS = 50.0
"""Silence after the last clause, so that players do not cut its end."""


def pause_ms(end: ClauseEnd, speed: float = 1.0) -> float:
    """The natural pause after a clause that ends so, in milliseconds."""
    return PAUSES_MS[end] / speed


def silence(duration_ms: float, sample_rate_hz: int) -> Samples:
    """Silence, float32 (n,)."""
    return np.zeros(max(0, round(duration_ms * sample_rate_hz / 1000)), np.float32)


class Joiner:
    """Joins the clauses of one utterance.

    A natural pause is emitted before the next clause's first sound, so that nothing trails after
    the last clause but ``TAIL_MS``. An explicit pause replaces the natural one, is not scaled by
    the speed, and is emitted at once, wherever it stands. Clauses without sound leave no trace
    but their explicit pause.

    Words come with the sound they are in, at their places in the clause, and leave by
    ``take_words`` at those in the joined sound.
    """

    def __init__(self, sample_rate_hz: int, speed: float = 1.0) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._speed = speed
        self._trimmer: ClauseTrimmer | None = None
        self._clause_sounds = False
        self._any_sound = False
        self._pending_ms = 0.0  # natural pause before the next sound
        self._explicit_ms = 0.0  # explicit pauses since the last sound
        self._given = 0  # samples of joined sound
        self._sounds_from = 0  # where the clause that sounds begins in it
        self._shift = 0  # from a place in the clause that sounds to one in the joined sound
        self._waiting: list[WordTiming] = []  # at their places in the clause
        self._placed: list[WordTiming] = []

    def begin_clause(self) -> None:
        """Start a clause; the one before must have been ended."""
        self._trimmer = ClauseTrimmer(self._sample_rate_hz)
        self._clause_sounds = False

    def push(self, samples: Samples, words: Sequence[WordTiming] = ()) -> Samples:
        """Take sound of the current clause, float32 (n,); return what is ready, float32 (m,)."""
        if self._trimmer is None:
            self.begin_clause()
        assert self._trimmer is not None
        joined = self._after_pause(self._trimmer, self._trimmer.push(samples))
        if words or self._waiting:
            self._waiting.extend(words)
            self._place_words()
        return joined

    def take_words(self) -> tuple[WordTiming, ...]:
        """The words whose sound was returned since the last call."""
        if not self._placed:
            return ()
        placed, self._placed = tuple(self._placed), []
        return placed

    def end_clause(self, end: ClauseEnd, pause_ms: float | None = None) -> Samples:
        """End the current clause; return its rest, and its pause if that is explicit."""
        rest = empty()
        if self._trimmer is not None:
            rest = self._after_pause(self._trimmer, self._trimmer.finish())
            self._trimmer = None
        self._place_words(ended=True)
        if pause_ms is not None:
            self._pending_ms = 0.0
            self._explicit_ms += pause_ms
            pause = silence(pause_ms, self._sample_rate_hz)
            self._given += len(pause)
            rest = np.concatenate([rest, pause])
        elif self._clause_sounds:
            self._pending_ms = PAUSES_MS[end] / self._speed
        self._clause_sounds = False
        return rest

    def finish(self) -> Samples:
        """Return what is left and the closing silence; the joiner is spent."""
        rest = self.end_clause("sentence") if self._trimmer is not None else empty()
        if not self._any_sound:
            return rest
        tail_ms = max(0.0, TAIL_MS - self._explicit_ms)
        return np.concatenate([rest, silence(tail_ms, self._sample_rate_hz)])

    def _place_words(self, *, ended: bool = False) -> None:
        """Words whose sound is out; at the clause's ``ended`` all of them, within its sound."""
        while self._waiting and self._clause_sounds:
            end = self._waiting[0].end_sample + self._shift
            if end > self._given and not ended:
                return
            word = self._waiting.pop(0)
            self._placed.append(word.mapped(self._place))
        if ended:
            self._waiting = []

    def _place(self, position: int) -> int:
        """Where the joined sound has what the clause has at ``position``, trimmed edges aside."""
        return min(max(position + self._shift, self._sounds_from), self._given)

    def _after_pause(self, trimmer: ClauseTrimmer, samples: Samples) -> Samples:
        if not len(samples):
            return samples
        pause = silence(self._pending_ms, self._sample_rate_hz)
        if not self._clause_sounds:
            self._sounds_from = self._given + len(pause)
            self._shift = self._sounds_from - trimmer.skipped
        self._given += len(pause) + len(samples)
        self._pending_ms = 0.0
        self._explicit_ms = 0.0
        self._clause_sounds = self._any_sound = True
        return np.concatenate([pause, samples]) if len(pause) else samples


@cache
def _rise(length: int) -> Samples:
    """Raised cosine from 0 to 1, shape (length,)."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)).astype(np.float32)


class ClauseTrimmer:
    """Drops the silence before and after a clause and keeps that inside it.

    Leading silence goes as it comes (only ``lead_ms`` before the first sound is kept), inner
    silence is held back until sound resumes, trailing silence is dropped at ``finish`` but for
    ``tail_ms``. The edges fade over 4 ms. Sound itself is held back by at most two blocks
    (10 ms). At most ``MAX_HELD_S`` of silence is held: what is older counts as inner.

    ``threshold_db`` is relative to full scale; sound starts above it and ends 10 dB below it.
    ``skipped`` counts the samples that were dropped before the first sound, once that is there.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        threshold_db: float = -50.0,
        lead_ms: float = 10.0,
        tail_ms: float = 20.0,
    ) -> None:
        self._block = max(1, round(sample_rate_hz * BLOCK_MS / 1000))
        self._fade = max(1, round(sample_rate_hz * FADE_MS / 1000))
        self._lead = round(sample_rate_hz * lead_ms / 1000)
        self._tail = round(sample_rate_hz * tail_ms / 1000)
        self._max_held = round(sample_rate_hz * MAX_HELD_S / self._block)
        self._start_power = 10 ** (threshold_db / 10)
        self._stay_power = 10 ** ((threshold_db - HYSTERESIS_DB) / 10)
        self._partial = empty()
        self._pre_roll = empty()
        self._sound: Samples | None = None  # the last block with sound, not given yet
        self._silence: list[Samples] = []  # what came after it
        self._given = 0
        self._leading = 0  # samples before the first sound
        self.skipped = 0

    def push(self, samples: Samples) -> Samples:
        """Take float32 (n,); return what is certain to stay, float32 (m,), m may be 0."""
        self._partial = np.concatenate([self._partial, samples])
        whole = len(self._partial) // self._block * self._block
        blocks = self._partial[:whole].reshape(-1, self._block)
        self._partial = self._partial[whole:]
        out: list[Samples] = []
        for block, power in zip(blocks, _powers(blocks), strict=True):
            self._take(block, power, out)
        return self._fade_in(concatenate(out))

    def finish(self) -> Samples:
        """Return the end of the clause, faded out; the trimmer is spent."""
        out: list[Samples] = []
        if len(self._partial):
            power = float(np.mean(np.square(self._partial, dtype=np.float64)))
            self._take(self._partial, power, out)
        if self._sound is None:
            return empty()
        silence = concatenate(self._silence)[: self._tail]
        end = self._fade_in(np.concatenate([*out, self._sound, silence]))
        fade = min(self._fade, len(end))
        end[len(end) - fade :] *= _rise(fade)[::-1]
        return end

    def _take(self, block: Samples, power: float, out: list[Samples]) -> None:
        sounding = self._sound is not None and not self._silence
        if power >= (self._stay_power if sounding else self._start_power):
            self._take_sound(block, out)
        elif self._sound is None:
            kept = np.concatenate([self._pre_roll, block])
            self._pre_roll = kept[max(0, len(kept) - self._lead) :]
            self._leading += len(block)
        else:
            self._silence.append(block)
            if len(self._silence) > self._max_held:
                out.append(self._sound)
                self._sound = self._silence.pop(0)

    def _take_sound(self, block: Samples, out: list[Samples]) -> None:
        if self._sound is None:
            out.append(self._pre_roll)
            self.skipped = self._leading - len(self._pre_roll)
        else:
            out.extend([self._sound, *self._silence])
        self._sound = block
        self._silence = []

    def _fade_in(self, samples: Samples) -> Samples:
        """Apply what is left of the fade-in; returns a new array, never the caller's own."""
        faded = samples.astype(np.float32, copy=True)
        rising = _rise(self._fade)[self._given : self._given + len(faded)]
        faded[: len(rising)] *= rising
        self._given += len(faded)
        return faded


def _powers(blocks: Samples) -> list[float]:
    """Mean square of each row of (b, n)."""
    powers: list[float] = np.mean(np.square(blocks, dtype=np.float64), axis=1).tolist()
    return powers
