"""Guards against a model that does not begin, does not stop, or goes in circles.

Whatever a guard ends in the middle ends as "length", not "stop".
"""

from __future__ import annotations

from vivavoce.engines.neutts.backbone import Codes
from vivavoce.engines.neutts.codec.stream import CODES_PER_S
from vivavoce.engines.repetition import RepetitionWindow
from vivavoce.text.duration import expected_duration_s, max_duration_s

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


class LoopGuard:
    """Says when the codes of 3 s have come round again and again, in periods of up to 1 s."""

    def __init__(self) -> None:
        self._codes = RepetitionWindow(LOOP_CODES, LOOP_PERIODS, LOOP_SHARE)
        self._unseen = 0

    def said(self, codes: Codes) -> bool:
        """Take the next codes; True when the latest ones are a loop, looked at every 0.5 s."""
        for code in codes.tolist():
            self._codes.add(code)
        self._unseen += len(codes)
        if self._unseen < LOOK_EVERY or self._codes.length < LOOP_CODES + LOOP_PERIODS:
            return False
        self._unseen = 0
        return self._codes.looping
