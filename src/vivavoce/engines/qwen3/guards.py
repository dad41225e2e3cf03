"""Guards against a model that does not stop: how long a text may take, and loops.

Whatever a guard ends, ends as "length", not "stop".
"""

from __future__ import annotations

from vivavoce.engines.repetition import RepetitionWindow
from vivavoce.text.duration import max_duration_s
from vivavoce.text.style import style_room

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


class LoopGuard:
    """Says when the first codes of the frames have come round again and again for 4 s."""

    def __init__(self) -> None:
        self._codes = RepetitionWindow(LOOP_FRAMES, LOOP_PERIODS, LOOP_SHARE)

    def said(self, code: int) -> bool:
        """Take code 0 of the next frame; True when the latest ones are a loop."""
        self._codes.add(code)
        return self._codes.looping
