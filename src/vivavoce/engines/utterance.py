"""What engines keep of an utterance beside its text: what was made, when, and what may end it.

``UtteranceState`` is the part that engines with a language model share. Its guards end a model that
says nothing any more or goes in circles; what a guard ends, ends as "length", not "stop".
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vivavoce.engines.clock import SILENCE_PEAK, PlaybackClock
from vivavoce.errors import EngineError, VivavoceError
from vivavoce.types import FinishReason, Samples

SILENCE_S = 3.0
NEVER = -1


class RepetitionWindow:
    """Counts how many of the ``window`` latest codes repeat the code one to ``periods`` earlier.

    Where ``share`` of them do so at one and the same distance, the period, that is a loop.
    ``length`` is how many codes there were.

    One integer holds all counters, a field of bits for each period, so that a code costs the same
    few additions however many periods there are. A code looks up where it was last, with the
    periods at which it was before that: most codes were nowhere, and add nothing.
    """

    def __init__(self, window: int, periods: int, share: float) -> None:
        self._window, self._periods = window, periods
        self._bits = window.bit_length() + 1
        ones = sum(1 << self._bits * period for period in range(periods))
        self._all = (1 << self._bits * periods) - 1
        self._top = ones << self._bits - 1
        least = next(count for count in range(window + 1) if count / window >= share)
        self._lift = ones * ((1 << self._bits - 1) - least)  # `least` then reaches the top bit
        self._counts = 0
        self.length = 0
        self._repeats = deque([0] * window, window)
        self._recent = deque([NEVER] * periods, periods)
        self._seen: dict[int, tuple[int, int]] = {}

    def add(self, code: int) -> None:
        """Take the next code, 0 or more."""
        at = self.length
        self.length = at + 1
        seen = self._seen
        oldest = self._recent[0]
        self._recent.append(code)
        repeats, found = 0, seen.get(code)
        if found is not None:
            last, earlier = found
            repeats = (earlier << self._bits * (at - last - 1)) & self._all
        seen[code] = at, repeats << self._bits | 1
        if oldest != NEVER and seen[oldest][0] == at - self._periods:
            del seen[oldest]  # too long ago for any period
        self._counts += repeats - self._repeats[0]
        self._repeats.append(repeats)

    @property
    def looping(self) -> bool:
        """Whether any period is a loop; not before every one of them had a whole window."""
        if self.length < self._window + self._periods:
            return False
        return bool((self._counts + self._lift) & self._top)


class LoopGuard:
    """Says when the latest codes have come round again and again.

    ``window``, ``periods`` and ``share`` are those of ``RepetitionWindow``; it looks after every
    ``look_every`` codes at least.
    """

    def __init__(self, window: int, periods: int, share: float, look_every: int = 1) -> None:
        self._codes = RepetitionWindow(window, periods, share)
        self._enough = window + periods
        self._look_every = look_every
        self._unseen = 0

    def push(self, codes: Iterable[int]) -> bool:
        """Take the next codes; True when the latest ones are a loop."""
        for code in codes:
            self._codes.add(code)
            self._unseen += 1
        if self._unseen < self._look_every or self._codes.length < self._enough:
            return False
        self._unseen = 0
        return self._codes.looping


@dataclass(slots=True)
class SilenceGuard:
    """Says when there has been nothing to hear for ``SILENCE_S``."""

    sample_rate_hz: int
    _silent: int = 0

    def push(self, samples: Samples) -> bool:
        """Take the next sound, float32 (n,); True when it has been silent for too long."""
        loud = np.flatnonzero(np.abs(samples) >= SILENCE_PEAK)
        self._silent = (
            len(samples) - 1 - int(loud[-1]) if len(loud) else self._silent + len(samples)
        )
        return self._silent > SILENCE_S * self.sample_rate_hz


@dataclass(slots=True, kw_only=True)
class UtteranceState:
    """The state of an admitted utterance, as far as no model matters.

    ``guarded``: its guards may end it. ``sound`` waits to be handed out, ``clock`` plays it.
    ``recorded``, where it is a list, gets every code. ``ended`` is why it ends.
    """

    guarded: bool
    silence: SilenceGuard
    clock: PlaybackClock = field(default_factory=PlaybackClock)
    sound: list[Samples] = field(default_factory=list)
    stages_ms: dict[str, float] = field(default_factory=dict)
    recorded: list[Any] | None = None
    first_token_s: float | None = None
    ended: FinishReason | None = None
    error: VivavoceError | None = None
    _tokens: int = 0

    def end(self, reason: FinishReason) -> None:
        """It ends, for the first reason that there was."""
        self.ended = self.ended or reason

    def fail(self, error: VivavoceError) -> None:
        """It ends with an error, the first that there was."""
        self.error, self.ended = self.error or error, "error"

    def record(self) -> list[Any]:
        """A list that gets every code from now on."""
        self.recorded = [] if self.recorded is None else self.recorded
        return self.recorded

    def count_tokens(self, count: int) -> None:
        """So many more were made, now."""
        if self.first_token_s is None:
            self.first_token_s = time.monotonic()
        self._tokens += count

    def is_sound(self, samples: Samples) -> bool:
        """Whether all of them are numbers; it fails where they are not."""
        if np.isfinite(samples).all():
            return True
        self.fail(EngineError("The codec gave numbers that are not finite."))
        return False

    def add_stage_ms(self, stage: str, spent_ms: float) -> None:
        """Note time that was spent; told with the next sound."""
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + spent_ms

    def drain_stages_ms(self) -> dict[str, float]:
        """The noted times, which begin anew."""
        drained, self.stages_ms = self.stages_ms, {}
        return drained

    def drain_token_count(self) -> int:
        """How many were made since this was last asked."""
        drained, self._tokens = self._tokens, 0
        return drained
